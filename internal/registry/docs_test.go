package registry

import (
	"os"
	"strings"
	"testing"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// TestProvidersHaveTheirPages holds docs/registries against the tables here: a page for each provider that names its
// inputs, the audiences that are asked for, and every code that its answers lead to.
func TestProvidersHaveTheirPages(t *testing.T) {
	t.Parallel()
	read := func(name string) string {
		content, err := os.ReadFile("../../docs/registries/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return string(content)
	}
	pages := map[string]string{"generic": "self-hosted.md"}
	audiences := map[string][]string{"ecr": {awsAudience}, "dockerhub": {dockerHubAudience}}
	for _, host := range []string{"acme.azurecr.io", "acme.azurecr.us", "acme.azurecr.cn"} {
		_, audience := azureCloud(host)
		audiences["acr"] = append(audiences["acr"], audience)
	}
	index := read("README.md")
	for _, p := range providers() {
		name := pages[p.id]
		if name == "" {
			name = p.id + ".md"
		}
		page := read(name)
		if !strings.Contains(index, "["+name+"]("+name+") | `"+p.id+"` |") {
			t.Errorf("the index does not list %s", name)
		}
		for _, audience := range audiences[p.id] {
			if !strings.Contains(page, "`"+audience+"`") || !strings.Contains(index, "`"+audience+"`") {
				t.Errorf("%s or the index does not name the audience %s", name, audience)
			}
		}
		for _, input := range p.inputs {
			if !strings.Contains(page, "`"+input+"`") {
				t.Errorf("%s does not name the input %s", name, input)
			}
		}
		codes := map[fault.Code]bool{fault.PullDenied: true, fault.NoCredentials: true, fault.PushDenied: true, fault.CredentialsRefused: true}
		for code := range p.remedies {
			codes[code] = true
		}
		for _, r := range p.rules {
			codes[r.is] = true
		}
		if p.federated != nil {
			codes[fault.NoIDToken], codes[fault.OIDCRefused] = true, true
		}
		if p.path != nil {
			codes[fault.BadRepository] = true
		}
		for code := range codes {
			if !strings.Contains(page, "](../errors/"+string(code)+".md)") {
				t.Errorf("%s says nothing of %s: %s", name, code, fault.Titles[code])
			}
		}
	}
}
