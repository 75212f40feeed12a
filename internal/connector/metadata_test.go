package connector_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

func TestParseMetadataReadsItsFields(t *testing.T) {
	t.Parallel()
	got, err := connector.ParseMetadata("source-x/metadata.yaml", []byte(`
metadataSpecVersion: "1.0"
shared: &shared
  documentationUrl: https://docs.example/x
data:
  <<: *shared
  name: X
  connectorType: source
  dockerRepository: ghcr.io/acme/source-x
  dockerImageTag: "1.10"
  icon: 17
  whatever: [1, {2: 3}]
  icon: twice in what nobody reads
  tags: [language:manifest-only, "cdk:low-code"]
  connectorBuildOptions: {baseImage: docker.io/airbyte/source-declarative-manifest:7.6.5}
  resourceRequirements:
    jobSpecific:
      - resourceRequirements: {memory_limit: 2Gi, cpu_request: "0.5"}
        jobType: sync
    default: {cpu_limit: "2"}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := &connector.Metadata{File: "source-x/metadata.yaml", Name: "X", Type: connector.Source,
		DockerRepository: "ghcr.io/acme/source-x", DockerImageTag: "1.10", DocumentationURL: "https://docs.example/x",
		Tags: []string{"language:manifest-only", "cdk:low-code"}, BaseImage: "docker.io/airbyte/source-declarative-manifest:7.6.5",
		ResourceRequirements: []byte(`{"default":{"cpu_limit":"2"},"jobSpecific":[{"jobType":"sync","resourceRequirements":{"cpu_request":"0.5","memory_limit":"2Gi"}}]}`)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metadata (-want +got):\n%s", diff)
	}
	if !connector.ManifestOnly(got) || connector.ManifestOnly(nil) || connector.ManifestOnly(&connector.Metadata{}) {
		t.Error("ManifestOnly must be true for the tag and for nothing else")
	}
}

func TestParseMetadataOfFewFields(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{
		"nothing under data": "data: {}",
		"nulls":              "data: {name: , tags: null, connectorBuildOptions: ~, resourceRequirements: }",
		"empty requirements": "data: {resourceRequirements: {}}",
		"other types":        "data: {license: 3, releases: [x]}",
		"byte order mark":    "\ufeffdata: {}",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := connector.ParseMetadata("m", []byte(content))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(&connector.Metadata{File: "m"}, got); diff != "" {
				t.Errorf("metadata (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseMetadataProblems(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		content string
		// want are the problems in their order, each a part of the error's line.
		want []string
	}{
		"empty":             {"", []string{"read m: it is empty"}},
		"only a comment":    {"# nothing\n", []string{"it is empty"}},
		"null":              {"~", []string{"it is empty"}},
		"a text":            {"hello", []string{"read m:1: the file is a text, not a mapping"}},
		"a list":            {"- data: {}", []string{"the file is a list, not a mapping"}},
		"no data":           {"\nname: x\n", []string{`read m:2: it has no "data"`}},
		"data null":         {"data:\n", []string{`it has no "data"`}},
		"data a list":       {"\ndata: [1]\n", []string{"read m:2: data is a list, not a mapping"}},
		"data twice":        {"data: {}\ndata: {}\n", []string{"read m:2: data is there twice, first in line 1"}},
		"not YAML":          {"data:\n  name: a: b\n", []string{"read m:2: it is not YAML: mapping values are not allowed"}},
		"tab":               {"data:\n\tname: x\n", []string{"read m:2: it is not YAML"}},
		"two documents":     {"data: {}\n---\ndata: {}\n", []string{"more than one YAML document"}},
		"second is broken":  {"data: {}\n---\n\t[", []string{"it is not YAML"}},
		"invalid UTF-8":     {"data: {name: \"\xff\xfe\xfa\"}", []string{"it is not YAML: invalid"}},
		"NUL":               {"data: {name: \"a\x00b\"}", []string{"it is not YAML: control characters"}},
		"unknown alias":     {"data: {name: *nowhere}", []string{"it is not YAML: unknown anchor"}},
		"a number as tag":   {"data:\n  dockerImageTag: 1.10\n", []string{`read m:2: data.dockerImageTag is a number, not a text. Write it in quotes: "1.10"`}},
		"a date as tag":     {"data: {dockerImageTag: 2024-01-01}", []string{`is a date, not a text. Write it in quotes: "2024-01-01"`}},
		"a boolean as name": {"data: {name: true}", []string{"data.name is a boolean"}},
		"a list as name":    {"data:\n  name:\n  - x\n", []string{"read m:2: data.name is a list, not a text. Write a text there"}},
		"own YAML type":     {"data: {name: !secret x}", []string{"data.name is a value of the type !secret"}},
		"name twice":        {"data:\n  name: a\n  name: b\n", []string{"read m:3: data.name is there twice, first in line 2"}},
		"type":              {"data: {connectorType: sauce}", []string{`data.connectorType is "sauce". Write source or destination`}},
		"type, upper case":  {"data: {connectorType: Source}", []string{`data.connectorType is "Source"`}},
		"tags a text":       {"data: {tags: x}", []string{"data.tags is a text, not a list"}},
		"tags of numbers":   {"data:\n  tags:\n  - a\n  - 3\n", []string{"read m:4: data.tags[1] is a number"}},
		"options a text":    {"data: {connectorBuildOptions: x}", []string{"data.connectorBuildOptions is a text, not a mapping"}},
		"base image":        {"data: {connectorBuildOptions: {baseImage: [x]}}", []string{"data.connectorBuildOptions.baseImage is a list"}},
		"requirements":      {"data: {resourceRequirements: [x]}", []string{"data.resourceRequirements is a list, not a mapping"}},
		"requirement names": {"data: {resourceRequirements: {default: {memoryLimit: 2Gi}}}",
			[]string{`data.resourceRequirements.default has the key "memoryLimit", which Airbyte would drop silently. Use cpu_request,`}},
		"requirement number": {"data: {resourceRequirements: {default: {cpu_limit: 2}}}",
			[]string{`data.resourceRequirements.default.cpu_limit is a number, not a text. Write it in quotes: "2"`}},
		"job types": {"data: {resourceRequirements: {jobSpecific: [{jobType: synch}, {}, x]}}",
			[]string{`data.resourceRequirements.jobSpecific[0].jobType is "synch", which Airbyte does not know`,
				"jobSpecific[1] has no jobType", "jobSpecific[2] is a text, not a mapping"}},
		"all in one go": {"data:\n  name: 1\n  connectorType: x\n  tags: 2\n",
			[]string{"read m:2: data.name", "read m:4: data.tags", "read m:3: data.connectorType"}},
		"self-made loops":  {"data: &d {<<: *d, tags: &t [*t], connectorBuildOptions: *d}", []string{"data.tags[0] is a list"}},
		"workflow command": {"data: {connectorType: \"x\\n::error::y\"}", []string{`data.connectorType is "x ::error::y"`}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, err := connector.ParseMetadata("m", []byte(test.content))
			if m != nil {
				t.Errorf("metadata in spite of problems: %+v", m)
			}
			found := fault.List(err)
			if len(found) != len(test.want) {
				t.Fatalf("%d problems, want %d: %v", len(found), len(test.want), err)
			}
			for i, f := range found {
				if f.Code != fault.BadMetadata || !strings.Contains(f.Error(), test.want[i]) {
					t.Errorf("problem %d: %s\nwant AP105 and %q", i, f, test.want[i])
				}
				if f.Remedy == "" || strings.ContainsAny(f.Error(), "\n\x00") {
					t.Errorf("problem %d lacks a remedy or is not one line: %q", i, f)
				}
			}
		})
	}
}

func TestParseMetadataOfHostileSize(t *testing.T) {
	t.Parallel()
	var bomb strings.Builder
	bomb.WriteString("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := 1; i < 12; i++ {
		ref := "*a" + string(rune('a'+i-2)) + ", "
		if i == 1 {
			ref = "*a0, "
		}
		bomb.WriteString("a" + string(rune('a'+i-1)) + ": &a" + string(rune('a'+i-1)) + " [" + strings.Repeat(ref, 10) + "]\n")
	}
	bomb.WriteString("data: {name: X, tags: *ak}\n")
	tests := map[string]struct{ content, want string }{
		"alias bomb":       {bomb.String(), "data.tags[0] is a list"},
		"too large":        {strings.Repeat("#", 1<<20+1), "at most 1048576 are read"},
		"deep nesting":     {"data: " + strings.Repeat("[", 200_000), "it is not YAML"},
		"endless problems": {"data: {tags: [" + strings.Repeat("1, ", 100_000) + "]}", "data.tags[0] is a number"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := connector.ParseMetadata("m", []byte(test.content))
			found := fault.List(err)
			if len(found) == 0 || len(found) > 20 || !strings.Contains(found[0].Error(), test.want) {
				t.Fatalf("%d problems, want 1 to 20, the first with %q: %.2000v", len(found), test.want, err)
			}
		})
	}
}

// TestParseMetadataOfManyAliases has small files that name the same mappings so often that looking for a field in all of
// them would take minutes.
func TestParseMetadataOfManyAliases(t *testing.T) {
	t.Parallel()
	var merges strings.Builder
	merges.WriteString("m0: &m0 {x: y}\n")
	for i := 1; i <= 8; i++ {
		fmt.Fprintf(&merges, "m%d: &m%d\n  <<: [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*m%d, ", i-1), 30), ", "))
	}
	merges.WriteString("data:\n  <<: *m8\n")
	var keys strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&keys, "k%d: 1, ", i)
	}
	wide := "wide: &wide {" + keys.String() + "}\ndata: {resourceRequirements: {jobSpecific: [" + strings.Repeat("*wide, ", 20_000) + "]}}\n"
	for name, tt := range map[string]struct{ content, at string }{
		"merges of merges": {merges.String(), "m:5: its aliases"},
		"a list of one":    {wide, "m:1: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begun := time.Now()
			_, err := connector.ParseMetadata("m", []byte(tt.content))
			took := time.Since(begun)
			found := fault.List(err)
			if len(found) == 0 || found[0].Code != fault.BadMetadata || !strings.Contains(err.Error(), tt.at) ||
				!strings.Contains(err.Error(), "its aliases make it far larger than it looks") && len(found) < 20 {
				t.Errorf("got %.2000v", err)
			}
			t.Logf("%d bytes took %s", len(tt.content), took)
			if len(tt.content) < 2000 && took > 100*time.Millisecond {
				t.Errorf("%d bytes took %s", len(tt.content), took)
			}
		})
	}
}

func TestParseResourceRequirements(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ text, want, wantErr string }{
		"JSON": {`{"jobSpecific": [{"jobType": "sync", "resourceRequirements": {"memory_limit": "2Gi", "cpu_limit": "1"}}]}`,
			`{"jobSpecific":[{"jobType":"sync","resourceRequirements":{"cpu_limit":"1","memory_limit":"2Gi"}}]}`, ""},
		"YAML":           {"default:\n  cpu_limit: '1'\n", `{"default":{"cpu_limit":"1"}}`, ""},
		"says nothing":   {"{}", "", ""},
		"not an object":  {"2Gi", "", "AP102: read resource-requirements:1: resourceRequirements is a text, not a mapping"},
		"misspelled key": {`{"defaults": {}}`, "", `resourceRequirements has the key "defaults"`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := connector.ParseResourceRequirements("resource-requirements", []byte(test.text))
			if string(got) != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
			if (err == nil) != (test.wantErr == "") || err != nil && !strings.Contains(err.Error(), test.wantErr) {
				t.Errorf("error %v, want %q", err, test.wantErr)
			}
		})
	}
}

// protocolDir is the folder of Airbyte's own protocol schemas and examples, which lies beside the module where it is
// to be had. It is no part of the module, so its absence is no failure.
func protocolDir(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("AIRBYTE_PROTOCOL_DIR")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "airbyte-protocol")
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("Airbyte's protocol files are not at %s; set AIRBYTE_PROTOCOL_DIR to test against them", dir)
	}
	return dir
}

func TestParseMetadataOfAirbytesExamples(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(protocolDir(t), "examples", "*metadata.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		m, err := connector.ParseMetadata(file, content)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if m.Name == "" || m.Type != connector.Source || m.DockerRepository == "" || m.DockerImageTag == "" || len(m.Tags) == 0 {
			t.Errorf("%s: fields are missing: %+v", file, m)
		}
	}
}

func FuzzParseMetadata(f *testing.F) {
	f.Add("data: {name: x, connectorType: source}")
	f.Add("data: &d {<<: [*d, {name: x}], tags: [a, 1]}")
	f.Add("data: {resourceRequirements: {jobSpecific: [{jobType: sync}]}}")
	f.Fuzz(func(t *testing.T, content string) {
		m, err := connector.ParseMetadata("m", []byte(content))
		if (m == nil) == (err == nil) {
			t.Fatalf("metadata %v with error %v", m, err)
		}
		for _, e := range fault.List(err) {
			if e.Code != fault.BadMetadata {
				t.Errorf("code %s", e.Code)
			}
		}
	})
}
