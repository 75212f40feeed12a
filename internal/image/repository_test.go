package image_test

import (
	"strings"
	"testing"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

func TestParseRepository(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"ghcr.io/acme/source-erp", "docker.io/acme/source-erp", "docker.io/source-erp", "localhost/x", "localhost:5000/x",
		"127.0.0.1:5000/a/b/c", "[::1]:5000/x", "eu-docker.pkg.dev/p/r/i", "registry.example:443/a__b/c-d.e"} {
		if r, err := image.ParseRepository(good); err != nil || string(r) != good {
			t.Errorf("%s: %v", good, err)
		}
	}
	for bad, remedy := range map[string]string{
		"acme/source-erp":                     "docker.io/acme/source-erp",
		"source-erp":                          "docker.io/source-erp",
		"source-erp:1":                        "REGISTRY/PATH/NAME",
		"ghcr.io":                             "ghcr.io/acme/source-erp",
		"ghcr.io/Acme/x":                      `"ghcr.io/acme/x"`,
		"$IMAGE":                              "lower-case",
		"a_/x":                                "lower-case",
		"ghcr.io/acme/x:1":                    `input "tag"`,
		"ghcr.io/acme/x@sha256:abc":           "digest",
		"https://ghcr.io/acme/x":              "scheme",
		"ghcr.io/acme//x":                     "slashes",
		"ghcr.io/acme/-x":                     "slashes",
		"ghcr.io/acme/x y":                    "slashes",
		"ghcr.io/":                            "slashes",
		"":                                    "REGISTRY/PATH/NAME",
		"ghcr.io/" + strings.Repeat("x", 256): "shorter",
	} {
		_, err := image.ParseRepository(bad)
		if fault.CodeOf(err) != fault.BadRepository || !strings.Contains(err.Error(), remedy) {
			t.Errorf("%q: %v, want a remedy with %q", bad, err, remedy)
		}
	}
}

func TestNormalise(t *testing.T) {
	t.Parallel()
	for _, same := range [][]string{
		{"docker.io/library/x", "x", "library/x", "docker.io/x", "index.docker.io/x", "registry-1.docker.io/library/x", " X ", "x/"},
		{"docker.io/acme/x", "acme/x", "index.docker.io/acme/X"},
		{"ghcr.io/acme/x", "GHCR.io/acme/x", "ghcr.io/acme/x/"},
		{"localhost/x"}, {"localhost:5000/x"}, {"[::1]:5000/x"},
	} {
		for _, spelling := range same {
			if got := image.Normalise(spelling); got != same[0] {
				t.Errorf("%q is %q, want %q", spelling, got, same[0])
			}
		}
	}
}
