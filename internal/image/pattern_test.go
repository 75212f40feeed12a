package image_test

import (
	"strings"
	"testing"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

func TestTagPatternMatch(t *testing.T) {
	t.Parallel()
	const none = "no match"
	tests := []struct {
		pattern, tag, version, name string
	}{
		{"", "v1.2.3", "1.2.3", ""},
		{"", "1.2.3", "1.2.3", ""},
		{"", "v1.2.3-rc.1", "1.2.3-rc.1", ""},
		{"", "1.2.3-v4.5.6", "1.2.3-v4.5.6", ""},
		{"", "v1.2.3-4.5.6", "1.2.3-4.5.6", ""},
		{"", "source-x/v1.2.3", "1.2.3", "source-x"},
		{"", "source-x/1.2.3", "1.2.3", "source-x"},
		{"", "source-x-v1.2.3", "1.2.3", "source-x"},
		{"", "source-x-v1.2.3-rc.1", "1.2.3-rc.1", "source-x"},
		{"", "destination_y.z/v10.20.30", "10.20.30", "destination_y.z"},
		{"", "v1.2", none, ""},
		{"", "v1.2.3+5", none, ""},
		{"", "nightly", none, ""},
		{"", "v1.2.3 ", none, ""},
		{"", "a/b/v1.2.3", none, ""},
		{"", "xv1.2.3", none, ""},
		{"", "source-x-1.2.3", none, ""},
		{"", "v1.2.3\nv1.2.4", none, ""},
		{`release-(?P<version>\d+)`, "release-7", "7", ""},
		{`^release-(?<version>\d+)$`, "release-7", "7", ""},
		{`release-(?P<version>\d+)`, "my-release-7", none, ""},
		{`(?P<version>\d*)`, "", none, ""},
		{`a(?P<version>\d)|b(?P<name>\w)`, "bx", none, ""},
		{`a(?P<version>\d)|b(?P<version>\d)`, "b2", "2", ""},
		{`connectors/(?P<name>[^/]+)/(?P<version>.+)`, "connectors/source-x/1.0", "1.0", "source-x"},
	}
	for _, tt := range tests {
		pattern := tt.pattern
		if pattern == "" {
			pattern = image.DefaultTagPattern
		}
		p, err := image.ParseTagPattern(pattern)
		if err != nil {
			t.Fatal(err)
		}
		version, name, ok := p.Match(tt.tag)
		if !ok {
			version = none
		}
		if version != tt.version || name != tt.name {
			t.Errorf("%s on %q: version %q, name %q; want %q, %q", pattern, tt.tag, version, name, tt.version, tt.name)
		}
	}
}

func TestParseTagPatternRefuses(t *testing.T) {
	t.Parallel()
	for pattern, phrase := range map[string]string{
		`v(.+)`:            `no group named "version"`,
		`v(?P<version>`:    "not a regular expression: missing closing )",
		`a)|(?P<version>b`: "not a regular expression",
		`(?P<version>` + strings.Repeat("a", 1000): "at most 1000",
	} {
		_, err := image.ParseTagPattern(pattern)
		if fault.CodeOf(err) != fault.InvalidInput || !strings.Contains(err.Error(), phrase) {
			t.Errorf("%.30s: %v; want %s and %q", pattern, err, fault.InvalidInput, phrase)
		}
	}
}
