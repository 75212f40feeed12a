package deployment

import (
	"fmt"
	"testing"

	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

func TestWhichEntryAKubeletTakes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		key, repository string
		want            bool
	}{
		{"ghcr.io", "ghcr.io/acme/x", true},
		{"https://ghcr.io", "ghcr.io/acme/x", true},
		{"https://ghcr.io/v1/", "ghcr.io/acme/x", true},
		{"ghcr.io/acme", "ghcr.io/acme/x", true},
		{"ghcr.io/acme/x", "ghcr.io/acme/x", true},
		{"ghcr.io/acme", "ghcr.io/acme2/x", false},
		{"ghcr.io/other", "ghcr.io/acme/x", false},
		{"GHCR.io", "ghcr.io/acme/x", true},
		{"quay.io", "ghcr.io/acme/x", false},
		{"registry.acme.example", "registry.acme.example:5000/x", false},
		{"registry.acme.example:5000", "registry.acme.example:5000/x", true},
		{"*.azurecr.io", "acme.azurecr.io/x", true},
		{"*.azurecr.io", "a.b.azurecr.io/x", false},
		{"acme-*.azurecr.io", "acme-eu.azurecr.io/x", true},
		{"https://index.docker.io/v1/", "docker.io/acme/x", true},
		{"index.docker.io", "docker.io/acme/x", true},
		{"docker.io", "docker.io/acme/x", true},
		{"registry-1.docker.io", "docker.io/acme/x", false},
		{"https://hub.docker.com", "docker.io/acme/x", false},
		{"https://index.docker.io/v1/", "ghcr.io/acme/x", false},
	} {
		if got := covers(tt.key, Image{Repository: image.Repository(tt.repository)}); got != tt.want {
			t.Errorf("%s for %s: %t", tt.key, tt.repository, got)
		}
	}
}

func TestLauncherSettingsAreReadAsTheLauncherDoes(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		"": `[""]`, "a": `["a"]`, "a,b": `["a" "b"]`, "a, b": `["a" " b"]`, "a,": `["a"]`, ",a": `["" "a"]`,
	} {
		i := &installation{settings: map[string]setting{pullSecretVariable: {value: value}}}
		if got := fmt.Sprintf("%q", i.pullSecrets()); got != want {
			t.Errorf("%q: %s, want %s", value, got, want)
		}
	}
	if got := fmt.Sprint(pairs("a=b, c=d=e,f,=g,h=")); got != "map[a:b c:d=e h:]" {
		t.Error(got)
	}
	if got := tolerations("key=a,operator=Exists;;key=b,value=c,effect=NoSchedule"); len(got) != 2 || got[0].Operator != "Exists" || got[1].Effect != "NoSchedule" {
		t.Error(got)
	}
	for label, want := range map[string]Chart{"workload-launcher-1.8.1": ChartV1, "airbyte-1.9.0": ChartV1, "airbyte-2.0.1": ChartV2, "airbyte-data-plane-2.0.1": ChartDataPlane, "": ChartUnknown} {
		if got := chartOf(label); got != want {
			t.Errorf("%s: %s", label, got)
		}
	}
}
