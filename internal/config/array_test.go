package config_test

import (
	"slices"
	"testing"
)

// TestListsAsArrays reads lists as GitLab hands them over.
func TestListsAsArrays(t *testing.T) {
	t.Parallel()
	c := world{env: map[string]string{
		"AIRBYTE_PUBLISH_EXTRA_TAGS": "[\"latest\", \"main\"]\n",
		"AIRBYTE_PUBLISH_BUILD_ARGS": `["A=1,2", "B=[\"x\"]"]`,
		"AIRBYTE_PUBLISH_LABELS":     "[]",
		"AIRBYTE_PUBLISH_CONNECTORS": " [] ",
	}}.mustLoad(t)
	one := c.Connectors[0]
	if !slices.Equal(one.ExtraTags, []string{"latest", "main"}) || len(one.Recipe.Labels) != 0 || one.Recipe.Args["A"] != "1,2" || one.Recipe.Args["B"] != `["x"]` {
		t.Errorf("%+v", one)
	}
	// What is no array of strings is taken as it stands.
	for _, glob := range []string{"[s]ource-erp", "[st]ource-erp"} {
		c := world{env: map[string]string{"AIRBYTE_PUBLISH_CONNECTORS": glob}, files: map[string]string{"source-erp/metadata.yaml": erp}}.mustLoad(t)
		if len(c.Connectors) != 1 || c.Connectors[0].Label != "source-erp" {
			t.Errorf("%s: %+v", glob, c.Connectors)
		}
	}
}
