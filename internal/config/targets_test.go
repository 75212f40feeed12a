package config_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/airbyte-publish/airbyte-publish/internal/config"
)

func TestTargetsOfThePullingSide(t *testing.T) {
	t.Parallel()
	nothing := map[string]string{"other.txt": ""}
	for name, tt := range map[string]struct {
		world world
		want  string
	}{
		"an image":                      {world{verb: config.VerifyPull, args: []string{"ghcr.io/acme/source-erp:1.2.3"}}, "ghcr.io/acme/source-erp 1.2.3"},
		"an image with a port":          {world{verb: config.VerifyPull, args: []string{"registry:5000/source-erp:1.2.3"}}, "registry:5000/source-erp 1.2.3"},
		"an image, and the tag apart":   {world{verb: config.VerifyPull, args: []string{"localhost/source-erp"}, env: env("tag", "1.2.3")}, "localhost/source-erp 1.2.3"},
		"an image and its digest":       {world{verb: config.VerifyPull, args: []string{"ghcr.io/acme/source-erp:1.2.3@sha256:" + strings.Repeat("a", 64)}}, "ghcr.io/acme/source-erp 1.2.3@sha256:" + strings.Repeat("a", 64)},
		"pull-secret of nothing":        {world{verb: config.PullSecret, files: nothing}, ""},
		"two images":                    {world{verb: config.VerifyPull, args: []string{"ghcr.io/acme/a:1", "quay.io/acme/b:2"}}, "ghcr.io/acme/a 1, quay.io/acme/b 2"},
		"the connector here":            {world{verb: config.VerifyPull}, "ghcr.io/acme/source-erp 1.2.3"},
		"a folder that looks like one":  {world{verb: config.VerifyPull, files: map[string]string{"ghcr.io/metadata.yaml": erp}, args: []string{"ghcr.io"}}, "ghcr.io/acme/source-erp 1.2.3"},
		"a folder and an image":         {world{verb: config.VerifyPull, files: map[string]string{"a/metadata.yaml": erp}, args: []string{"./a", "quay.io/acme/b:2"}}, "quay.io/acme/b 2, ghcr.io/acme/source-erp 1.2.3"},
		"the image input":               {world{verb: config.Doctor, files: nothing, env: env("image", "ghcr.io/acme/x")}, "ghcr.io/acme/x "},
		"doctor of nothing":             {world{verb: config.Doctor, files: nothing}, ""},
		"doctor needs no Airbyte":       {world{verb: config.Doctor, files: nothing, env: map[string]string{airbyteURL: ""}}, ""},
		"registries":                    {world{verb: config.PullSecret, args: []string{"ghcr.io", "docker.io", "registry:5000"}}, "ghcr.io|docker.io|registry:5000"},
		"a registry and an image":       {world{verb: config.PullSecret, args: []string{"quay.io", "ghcr.io/acme/x"}}, "ghcr.io/acme/x |quay.io"},
		"pull-secret for the connector": {world{verb: config.PullSecret}, "ghcr.io/acme/source-erp "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := tt.world.mustLoad(t)
			var parts []string
			for _, i := range c.Images {
				part := fmt.Sprintf("%s %s", i.Repository, i.Tag)
				if i.Digest != "" {
					part += "@" + i.Digest
				}
				parts = append(parts, part)
			}
			got := strings.Join(append([]string{strings.Join(parts, ", ")}, c.Registries...), "|")
			if got = strings.TrimPrefix(got, "|"); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
			if len(c.Connectors) != 0 {
				t.Errorf("there is something to publish: %+v", c.Connectors)
			}
		})
	}
}

func TestKubeconfigIsAFileOrAText(t *testing.T) {
	t.Parallel()
	const text = "apiVersion: v1\nusers:\n- user: {token: hunter22}\n"
	c := world{env: env("kubeconfig", text)}.mustLoad(t)
	if string(c.Pulling.Kubeconfig) != text || c.Pulling.KubeconfigFile != "" || !slices.Contains(c.Secrets(), strings.TrimRight(text, "\n")) {
		t.Errorf("%+v, secrets %q", c.Pulling, c.Secrets())
	}
	c = world{files: map[string]string{"metadata.yaml": erp, "kube/config": text}, flags: map[string]string{"kubeconfig": "kube/config"}}.mustLoad(t)
	if c.Pulling.Kubeconfig != nil || !strings.HasSuffix(c.Pulling.KubeconfigFile, "/kube/config") {
		t.Errorf("%+v", c.Pulling)
	}
	if c.Pulling.Secret != "airbyte-publish-pull" || c.Pulling.Verify != config.Nowhere {
		t.Errorf("the defaults: %+v", c.Pulling)
	}
}
