package deployment

import (
	"testing"
	"time"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

// TestWordsOfOthers tells what a runtime says from the words that are in the image's own name, and from what a layer's
// unpacking says.
func TestWordsOfOthers(t *testing.T) {
	t.Parallel()
	const host = "registry.acme.example"
	for _, tt := range []struct {
		repository, tag, text string
		want                  fault.Code
	}{
		{host + "/acme/source-denied", "1.0.0", `failed to resolve reference "` + host + `/acme/source-denied:1.0.0": failed to do request: Head "https://` + host + `/v2/acme/source-denied/manifests/1.0.0": dial tcp: lookup: no such host`, fault.PullUnreachable},
		{host + "/acme/source-denied", "1.0.0", `failed to resolve reference "` + host + `/acme/source-denied:1.0.0": ` + host + `/acme/source-denied:1.0.0: not found`, fault.PullNotFound},
		{host + "/acme/unauthorized", "1.0.0", `failed to authorize: Get "https://` + host + `/token?scope=repository%3Aacme%2Funauthorized%3Apull": 500 Internal Server Error`, fault.DeploymentDenied},
		{host + "/denied", "1.0.0", `Head "https://` + host + `/v2/denied/manifests/1.0.0": unexpected status from HEAD request: 500 Internal Server Error`, fault.PullFailed},
		{host + "/denied", "1.0.0", `pull access denied, repository does not exist or may require authorization`, fault.DeploymentDenied},
		{host + "/acme/x", "unauthorized", `reading manifest unauthorized in ` + host + `/acme/x: received unexpected HTTP status: 500`, fault.PullFailed},
		{host + "/acme/toomanyrequests", "1", host + `/acme/toomanyrequests:1: not found`, fault.PullNotFound},
		{host + "/acme/x", "1", `failed to extract layer sha256:aa: mount callback failed on /var/lib/containerd/tmpmounts/1: failed to Lchown "/x": no such file: not found`, fault.PullFailed},
		{host + "/acme/x", "1", `Head "https://` + host + `/v2/": proxyconnect tcp: Proxy Authentication Required`, fault.PullUnreachable},
		{host + "/acme/x", "1", `unexpected status from HEAD request to https://` + host + `/v2/acme/x/manifests/1: 407 Proxy Authentication Required`, fault.PullUnreachable},
	} {
		if got := classify(tt.text, Image{Repository: image.Repository(tt.repository), Tag: tt.tag}).code; got != tt.want {
			t.Errorf("%s, want %s: %s", got, tt.want, tt.text)
		}
	}
	for name, want := range map[string]Image{"ghcr.io/acme/x:1": {Repository: "ghcr.io/acme/x", Tag: "1"}, "registry:5000/x": {Repository: "registry:5000/x"},
		"registry:5000/x:1@sha256:aa": {Repository: "registry:5000/x", Tag: "1"}} {
		if got := imageOf(name); got != want {
			t.Errorf("%s: %+v", name, got)
		}
	}
	// A proxy's refusal is none of the registry's on a Docker host, too.
	if got := reasonOf("Proxy Authentication Required"); got != unreachable {
		t.Errorf("reason %d", got)
	}
}

func TestNoPasswordIsNoVariablesValue(t *testing.T) {
	t.Parallel()
	c := Credentials{Host: "registry.acme.example", Username: "robot"}
	if why := c.short(func(string) string { return "" }, time.Now()); why != "" {
		t.Error(why)
	}
}
