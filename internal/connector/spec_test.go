package connector_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
)

// spec is a SPEC message around a connectionSpecification.
func spec(connectionSpecification string) string {
	return `{"type":"SPEC","spec":{"documentationUrl":"https://docs.example/x","connectionSpecification":` + connectionSpecification + `}}` + "\n"
}

// specWith is a SPEC message of a good source with further members of the specification.
func specWith(members string) string {
	return `{"type":"SPEC","spec":{"connectionSpecification":{"type":"object"},` + members + `}}` + "\n"
}

const goodSpec = `{"$schema":"http://json-schema.org/draft-07/schema#","type":"object","required":["host"],
"properties":{"host":{"type":"string","pattern":"^(?!http)[^/]+$","order":0,"examples":["a.example"]},
"password":{"type":"string","airbyte_secret":true},"max_tokens":{"type":"integer","default":1e2}}}`

// oneLine takes the line breaks out, which only make the test readable.
func oneLine(s string) string { return strings.ReplaceAll(s, "\n", "") }

func TestReadSpec(t *testing.T) {
	t.Parallel()
	const (
		failed, timeout, none, trace, bad, badWarning   = "AP210 error", "AP211 error", "AP212 error", "AP213 error", "AP214 error", "AP214 warning"
		protocol, injected, modes, documentation, large = "AP215 error", "AP216 error", "AP217 error", "AP218 warning", "AP223 error"
		largeWarning, secret                            = "AP223 warning", "AP224 warning"
	)
	good := spec(oneLine(goodSpec))
	out := func(s string) connector.SpecRun { return connector.SpecRun{Stdout: []byte(s)} }
	exit := func(code int, stderr string) connector.SpecRun {
		return connector.SpecRun{ExitCode: code, Stderr: []byte(stderr)}
	}
	source, destination := connector.Source, connector.Destination
	const lake = `"documentationUrl":"https://docs.example/x",`
	tests := map[string]struct {
		of   connector.Type
		run  connector.SpecRun
		ok   bool
		want []string
		// text must stand in the first finding's message or remedy.
		text string
	}{
		"good":                   {source, out(good), true, nil, ""},
		"no line end":            {source, out(strings.TrimSpace(good)), true, nil, ""},
		"Windows line ends":      {source, out("hello\r\n" + strings.TrimSpace(good) + "\r\n"), true, nil, ""},
		"among logs":             {source, out("starting…\n{\"type\":\"LOG\",\"log\":{\"level\":\"INFO\",\"message\":\"x\"}}\n{broken\n[1]\n\n" + good + "bye\n"), true, nil, ""},
		"other messages":         {source, out(`{"type":"TRACE","trace":{"type":"ESTIMATE"}}` + "\n" + `{"type":"CONTROL"}` + "\n" + `{"type":7}` + "\n" + good), true, nil, ""},
		"workflow command":       {source, out("::error::boo\n##[error]boo\n" + good), true, nil, ""},
		"NUL and bad UTF-8":      {source, out("\x00\xff\xfe{\x00}\n" + good), true, nil, ""},
		"bad UTF-8 in the spec":  {source, out(spec("{\"type\":\"object\",\"title\":\"\xff\"}")), true, nil, ""},
		"second SPEC":            {source, out(good + spec(`{"type":"array"}`)), true, []string{badWarning}, "2 SPEC messages"},
		"first SPEC wins":        {source, out(`{"type":"SPEC"}` + "\n" + good), false, []string{badWarning, bad}, "2 SPEC messages"},
		"nothing":                {source, out(""), false, []string{none}, `{"type":"SPEC"`},
		"only logs":              {source, out("hello\n{\"type\":\"LOG\"}\n"), false, []string{none}, "no SPEC message"},
		"spec in a RECORD":       {source, out(`{"type":"RECORD","spec":{}}`), false, []string{none}, ""},
		"type in lower case":     {source, out(`{"type":"spec","spec":{"connectionSpecification":{"type":"object"}}}`), false, []string{none}, ""},
		"keys in other cases":    {source, out(`{"TYPE":"SPEC","Spec":{"connectionSpecification":{"type":"object"}}}`), false, []string{none}, ""},
		"over several lines":     {source, out("{\n \"type\": \"SPEC\",\n \"spec\": {\n}}\n"), false, []string{none}, "over several lines"},
		"without the message":    {source, out("log\n" + `{"connectionSpecification":{"type":"object"}}`), false, []string{none}, "without the SPEC message"},
		"without it, many lines": {source, out("{\n\"connectionSpecification\":{\"type\":\"object\"}\n}"), false, []string{none}, "without the SPEC message"},

		"error trace":             {source, out(`{"type":"TRACE","trace":{"type":"ERROR","error":{"message":"no module x","internal_message":"at\nline 3"}}}`), false, []string{trace}, "no module x (at line 3)."},
		"error trace beside SPEC": {source, out(good + `{"type":"TRACE","trace":{"type":"ERROR","error":{"message":"late."}}}`), true, []string{trace}, "error: late."},
		"error trace, no message": {source, out(`{"type":"TRACE","trace":{"type":"ERROR"}}`), false, []string{trace}, "without a message"},
		"trace and exit code":     {source, connector.SpecRun{ExitCode: 1, Stdout: []byte(`{"type":"TRACE","trace":{"type":"ERROR","error":{"message":"x"}}}`)}, false, []string{trace, failed}, ""},
		"endless traces":          {source, out(strings.Repeat(`{"type":"TRACE","trace":{"type":"ERROR","error":{"message":"x"}}}`+"\n", 1000)), false, []string{trace, trace, trace}, ""},
		"hostile trace":           {source, out(`{"type":"TRACE","trace":{"type":"ERROR","error":{"message":"x\n::error::y\u001b[2J` + strings.Repeat("z", 90_000) + `"}}}`), false, []string{trace}, "x ::error::y [2Jzzz"},

		"exit 1":            {source, exit(1, "Traceback\nModuleNotFoundError: No module named 'x'\n"), false, []string{failed}, "No module named 'x'."},
		"exit 1 with SPEC":  {source, connector.SpecRun{ExitCode: 1, Stdout: []byte(good)}, true, []string{failed}, "exit code 1."},
		"exit 127":          {source, exit(127, "sh: 1: /x: not found"), false, []string{failed}, "was not found"},
		"exit 126":          {source, exit(126, "sh: 1: /x: Permission denied"), false, []string{failed}, "can't be executed"},
		"exec format error": {source, exit(126, "sh: 1: /x: Exec format error"), false, []string{failed}, "another architecture"},
		"exit 137":          {source, exit(137, ""), false, []string{failed}, "memory"},
		"killed":            {source, exit(-1, ""), false, []string{failed}, "killed by a signal"},
		"time up":           {source, connector.SpecRun{TimedOut: true, ExitCode: -1}, false, []string{timeout}, "did not end in time"},
		"time up with SPEC": {source, connector.SpecRun{TimedOut: true, ExitCode: -1, Stdout: []byte(good)}, true, []string{timeout}, ""},
		"too much":          {source, connector.SpecRun{Truncated: true, Stdout: []byte("xxx")}, false, []string{large}, "Log less"},
		"too much, killed":  {source, connector.SpecRun{Truncated: true, ExitCode: -1, Stdout: []byte(good)}, true, []string{largeWarning}, ""},
		"too much, failed":  {source, connector.SpecRun{Truncated: true, ExitCode: 1, Stdout: []byte(good)}, true, []string{failed}, "exit code 1"},
		"too much, SPEC":    {source, connector.SpecRun{Truncated: true, Stdout: []byte(good)}, true, []string{largeWarning}, ""},

		"spec is a text":          {source, out(`{"type":"SPEC","spec":"x"}`), false, []string{bad}, "spec is not an object"},
		"spec is null":            {source, out(`{"type":"SPEC","spec":null}`), false, []string{bad}, "spec is not an object"},
		"no schema":               {source, out(`{"type":"SPEC","spec":{}}`), false, []string{bad}, "no connectionSpecification"},
		"schema is a text":        {source, out(spec(`"{}"`)), false, []string{bad}, "no connectionSpecification"},
		"schema is null":          {source, out(spec(`null`)), false, []string{bad}, "no connectionSpecification"},
		"not of type object":      {source, out(spec(`{"type":"array"}`)), true, []string{bad}, `its "type" is not "object"`},
		"no type":                 {source, out(spec(`{}`)), true, []string{bad}, `its "type" is not "object"`},
		"no JSON Schema":          {source, out(spec(`{"type":"object","properties":{"a":{"type":"strin"}}}`)), true, []string{bad}, "at /properties/a/type"},
		"required is no list":     {source, out(spec(`{"type":"object","properties":{"a":{"required":true}}}`)), true, []string{bad}, "at /properties/a/required"},
		"examples as a text":      {source, out(spec(`{"type":"object","properties":{"a":{"examples":"x"}}}`)), true, []string{badWarning}, "at /properties/a/examples"},
		"property called title":   {source, out(spec(`{"type":"object","properties":{"title":"x","a":{"title":7}}}`)), true, []string{bad, badWarning}, "at /properties/title"},
		"draft 4":                 {source, out(spec(`{"$schema":"http://json-schema.org/draft-04/schema#","type":"object","properties":{"a":{"type":"integer","minimum":0,"exclusiveMinimum":true}}}`)), true, nil, ""},
		"draft 2020-12":           {source, out(spec(`{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","$defs":{"a":{}},"properties":{"a":{"$ref":"#/$defs/a"}}}`)), true, nil, ""},
		"unknown draft":           {source, out(spec(`{"$schema":"https://acme.example/schema","type":"object"}`)), true, []string{bad}, `refers to "https://acme.example/schema"`},
		"local reference":         {source, out(spec(`{"type":"object","definitions":{"a":{"type":"string"}},"properties":{"b":{"$ref":"#/definitions/a"}}}`)), true, nil, ""},
		"reference to itself":     {source, out(spec(`{"type":"object","properties":{"b":{"$ref":"#"}}}`)), true, nil, ""},
		"reference to nothing":    {source, out(spec(`{"type":"object","properties":{"b":{"$ref":"#/definitions/a"}}}`)), true, []string{bad}, "not a valid JSON Schema"},
		"reference to a file":     {source, out(spec(`{"type":"object","properties":{"b":{"$ref":"file:///etc/hostname"}}}`)), true, []string{bad}, `refers to "file:///etc/hostname"`},
		"reference to a path":     {source, out(spec(`{"type":"object","properties":{"b":{"$ref":"../b.json"}}}`)), true, []string{bad}, "is not loaded"},
		"reference to the web":    {source, out(spec(`{"type":"object","properties":{"b":{"$ref":"http://127.0.0.1:1/b"}}}`)), true, []string{bad}, "is not loaded"},
		"many mistakes":           {source, out(spec(`{"type":"object","properties":{"a":{"type":1},"b":{"type":1},"c":{"type":1},"d":{"type":1},"e":{"type":1},"f":{"type":1}}}`)), true, []string{bad, bad, bad, bad, bad}, ""},
		"nested deep":             {source, out(spec(strings.Repeat(`{"properties":{"a":`, 80) + "{}" + strings.Repeat("}}", 80))), true, []string{bad}, "nested more than 100 deep"},
		"nested beyond JSON":      {source, out(spec(strings.Repeat("[", 20_000))), false, []string{none}, ""},
		"many values":             {source, out(spec(`{"type":"object","enum":[` + strings.Repeat("1,", 20_000) + `2]}`)), true, []string{bad}, "more than 20000 values"},
		"huge number":             {source, out(spec(`{"type":"object","properties":{"a":{"maximum":1e999999999}}}`)), true, []string{bad}, "the number 1e999999999, which does not fit"},
		"huge negative exponent":  {source, out(spec(`{"type":"object","properties":{"a":{"minimum":1e-999999999}}}`)), true, []string{bad}, "does not fit"},
		"number of many digits":   {source, out(spec(`{"type":"object","properties":{"a":{"minimum":` + strings.Repeat("9", 10_000) + `}}}`)), true, []string{bad}, "does not fit"},
		"documentation no text":   {source, out(specWith(`"documentationUrl":7`)), true, []string{bad}, "documentationUrl is not a URL"},
		"documentation no URL":    {source, out(specWith(`"documentationUrl":"see the wiki"`)), true, []string{bad}, "documentationUrl is not a URL"},
		"documentation null":      {source, out(specWith(`"documentationUrl":null,"changelogUrl":""`)), true, nil, ""},
		"changelog no URL":        {source, out(specWith(`"changelogUrl":"http://[x"`)), true, []string{bad}, "changelogUrl is not a URL"},
		"protocol 0.3.0":          {source, out(specWith(`"protocol_version":"0.3.0"`)), true, nil, ""},
		"protocol 0.9.1":          {source, out(specWith(`"protocol_version":"0.9.1"`)), true, nil, ""},
		"protocol 1.0.0":          {source, out(specWith(`"protocol_version":"1.0.0"`)), true, []string{protocol}, "version 1.0.0"},
		"protocol v0.2.0":         {source, out(specWith(`"protocol_version":"v0.2.0"`)), true, []string{protocol}, `is "v0.2.0", not three numbers`},
		"protocol 0.2":            {source, out(specWith(`"protocol_version":"0.2"`)), true, []string{protocol}, "not three numbers"},
		"protocol as a number":    {source, out(specWith(`"protocol_version":0.2`)), true, []string{protocol}, "is 0.2, not three numbers"},
		"no manifest":             {source, out(spec(`{"type":"object","properties":{"__injected_declarative_manifest":{"type":"object"}}}`)), true, []string{injected}, "manifest.yaml"},
		"source with sync modes":  {source, out(specWith(`"supported_destination_sync_modes":["x"]`)), true, nil, ""},
		"destination":             {destination, out(specWith(lake + `"supported_destination_sync_modes":["append","overwrite","append_dedup","update","soft_delete"]`)), true, nil, ""},
		"destination, no modes":   {destination, out(specWith(lake + `"supportsIncremental":true`)), true, []string{modes}, "names no supported_destination_sync_modes"},
		"destination, empty":      {destination, out(specWith(lake + `"supported_destination_sync_modes":[]`)), true, []string{modes}, "names no"},
		"destination, null":       {destination, out(specWith(lake + `"supported_destination_sync_modes":null`)), true, []string{modes}, "names no"},
		"destination, other mode": {destination, out(specWith(lake + `"supported_destination_sync_modes":["append","merge","mirror"]`)), true, []string{modes}, `"merge" is not one`},
		"destination, a text":     {destination, out(specWith(lake + `"supported_destination_sync_modes":"append"`)), true, []string{modes}, "not a list"},
		"destination, numbers":    {destination, out(specWith(lake + `"supported_destination_sync_modes":[1]`)), true, []string{modes}, "not a list"},
		"destination, no docs":    {destination, out(specWith(`"supported_destination_sync_modes":["append"]`)), true, []string{documentation}, "up to 1.7"},

		"open secrets": {source, out(spec(`{"type":"object","properties":{"password":{"type":"string"},"auth":{"oneOf":[{"properties":{"clientSecret":{"type":["null","string"]},"api-key":{}}}]}}}`)), true, []string{secret}, "auth.api-key, auth.clientSecret, password."},
		"no secrets": {source, out(spec(`{"type":"object","properties":{"token":{"type":"string","airbyte_secret":true},"token_url":{"type":"string"},"password_length":{"type":"integer"},
"api_token":{"const":"x"},"secret":{"type":"object","properties":{"kind":{"type":"string"}}},"secretary":{"type":"string"},"token":{"enum":["a"]}}}`)), false, []string{none}, ""},
		"no secrets, one line":    {source, out(spec(`{"type":"object","properties":{"a_token":{"type":"string","airbyte_secret":true},"token_url":{"type":"string"},"api_token":{"const":"x"},"secret":{"type":"object"},"secretary":{"type":"string"},"token":{"enum":["a"]},"tokens":{"type":"integer"}}}`)), true, nil, ""},
		"secrets in a list":       {source, out(spec(`{"type":"object","properties":{"hosts":{"type":"array","items":{"type":"object","properties":{"ssh_private_key":{"type":"string"}}}}}}`)), true, []string{secret}, "hosts.ssh_private_key."},
		"secret in definitions":   {source, out(spec(`{"type":"object","definitions":{"token":{"type":"string"},"a":{"properties":{"secret_access_key":{}}}}}`)), true, []string{secret}, "a.secret_access_key."},
		"airbyte_secret as text":  {source, out(spec(`{"type":"object","properties":{"pwd":{"type":"string","airbyte_secret":"true"}}}`)), true, []string{secret}, "pwd."},
		"more secrets than shown": {source, out(spec(manySecrets(14))), true, []string{secret}, "and 4 more."},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begin := time.Now()
			got, found := connector.ReadSpec(connector.Connector{Type: test.of}, test.run)
			if took := time.Since(begin); took > 10*time.Second {
				t.Errorf("it took %s", took)
			}
			if (got != nil) != test.ok {
				t.Errorf("spec %+v, want one: %v", got, test.ok)
			}
			if diff := cmp.Diff(test.want, codes(found)); diff != "" {
				t.Fatalf("findings (-want +got):\n%s\n%+v", diff, found)
			}
			if test.text != "" && !strings.Contains(found[0].Message+" "+found[0].Remedy, test.text) {
				t.Errorf("%q does not say %q", found[0].Message+" "+found[0].Remedy, test.text)
			}
			checkFindings(t, found)
		})
	}
}

func manySecrets(n int) string {
	var properties []string
	for i := range n {
		properties = append(properties, fmt.Sprintf(`"n%d_token":{"type":"string"}`, i))
	}
	return `{"type":"object","properties":{` + strings.Join(properties, ",") + `}}`
}

func TestReadSpecFields(t *testing.T) {
	t.Parallel()
	const raw = `{"protocol_version":"0.3.0","documentationUrl":"https://docs.example/x","connectionSpecification":{"type":"object","title":"1.0"},"supported_destination_sync_modes":["append"]}`
	got, found := connector.ReadSpec(connector.Connector{Type: connector.Destination},
		connector.SpecRun{Stdout: []byte(`{"type":"SPEC","spec":` + raw + `}`)})
	want := &connector.Spec{Raw: []byte(raw), ConnectionSpecification: []byte(`{"type":"object","title":"1.0"}`),
		DocumentationURL: "https://docs.example/x", ProtocolVersion: "0.3.0", SyncModes: []string{"append"}}
	if diff := cmp.Diff(want, got); diff != "" || len(found) > 0 {
		t.Errorf("spec (-want +got):\n%s\n%v", diff, found)
	}
	got, _ = connector.ReadSpec(connector.Connector{}, connector.SpecRun{Stdout: []byte(spec(`{"type":"object"}`))})
	if got == nil || got.ProtocolVersion != "0.2.0" {
		t.Errorf("without a protocol_version it is %+v, want 0.2.0", got)
	}
}

func TestReadSpecLongLines(t *testing.T) {
	t.Parallel()
	message := func(length int) string {
		s := spec(`{"type":"object","title":"é"}`)
		return strings.Replace(s, "é", "é"+strings.Repeat("x", length-len([]rune(strings.TrimSpace(s)))), 1)
	}
	got, found := connector.ReadSpec(connector.Connector{}, connector.SpecRun{Stdout: []byte(message(20_000_000))})
	if got == nil || len(found) > 0 {
		t.Errorf("a line of 20 million characters must be read: %v", found)
	}
	got, found = connector.ReadSpec(connector.Connector{}, connector.SpecRun{Stdout: []byte(message(20_000_001))})
	if diff := cmp.Diff([]string{"AP223 error"}, codes(found)); diff != "" || got != nil {
		t.Errorf("a longer one must not:\n%s", diff)
	}
	got, found = connector.ReadSpec(connector.Connector{}, connector.SpecRun{Stdout: []byte(message(20_000_001) + spec(`{"type":"object"}`))})
	if got == nil || len(found) > 0 {
		t.Errorf("a SPEC after a line that is too long must be read: %v", found)
	}
}

func TestSpecLogs(t *testing.T) {
	t.Parallel()
	got := connector.SpecLogs(connector.SpecRun{
		Stdout: []byte("plain \x1b[31mred\x00\n" + spec(`{"type":"object"}`) +
			`{"type":"LOG","log":{"level":"WARN","message":"two\nlines","stack_trace":"at x"}}` + "\n" +
			`{"type":"TRACE","trace":{"type":"ERROR","error":{"message":"boom","internal_message":"inner","stack_trace":"at y"}}}` + "\n" +
			`{"type":"RECORD","record":{"data":{}}}` + "\n::error::not a command\n\xff\n"),
		Stderr: []byte("on stderr\r\n\n\ttab\n"),
	})
	want := "plain [31mred\nWARN two\nlines\nat x\nERROR boom\ninner\nat y\n::error::not a command\n\uFFFD\non stderr\n\ttab\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("logs (-want +got):\n%s", diff)
	}
	if got := connector.SpecLogs(connector.SpecRun{Stdout: []byte(spec(`{"type":"object"}`))}); got != "" {
		t.Errorf("a SPEC is no log: %q", got)
	}
}

func TestSpecLogsAreBounded(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", 1_000_000) + "\n" + strings.Repeat("line\n", 1_000_000) + "last\n"
	got := connector.SpecLogs(connector.SpecRun{Stdout: []byte(long), Stderr: []byte(long)})
	if len(got) > 40_000 || !strings.HasSuffix(got, "line\nlast\n") || strings.Count(got, "left out") != 2 || strings.Count(got, "last\n") != 2 {
		t.Errorf("%d bytes: %.100q … %q", len(got), got, got[max(0, len(got)-100):])
	}
	got = connector.SpecLogs(connector.SpecRun{Stderr: []byte(strings.Repeat("é", 1_000_000))})
	if len(got) > 2_100 || !strings.HasSuffix(got, "é …\n") {
		t.Errorf("%d bytes of a long line: %q", len(got), got[max(0, len(got)-20):])
	}
}

func TestSameSpec(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		a, b string
		want bool
	}{
		"equal":              {`{"a":1}`, `{"a":1}`, true},
		"order and space":    {`{"a":[1,{"b":null,"c":true}]}`, "{ \"a\": [1, {\"c\": true,\n\"b\": null}]}", true},
		"numbers by value":   {`{"a":1,"b":100,"c":-0.50}`, `{"a":1.0,"b":1e2,"c":-5E-1}`, true},
		"big numbers":        {`9007199254740993`, `9007199254740992`, false},
		"huge, same text":    {`1e999999999`, `1e999999999`, true},
		"huge, other text":   {`1e999999999`, `10e999999998`, false},
		"escapes":            {`"\u00e9\/"`, `"é/"`, true},
		"other number":       {`{"a":1}`, `{"a":1.1}`, false},
		"list order":         {`[1,2]`, `[2,1]`, false},
		"list length":        {`[1]`, `[1,1]`, false},
		"more keys":          {`{"a":1}`, `{"a":1,"b":1}`, false},
		"null is not absent": {`{"a":null}`, `{}`, false},
		"types":              {`{"a":"1"}`, `{"a":1}`, false},
		"list and object":    {`[]`, `{}`, false},
		"false and null":     {`false`, `null`, false},
		"empty":              {``, ``, false},
		"not JSON":           {`{`, `{`, false},
		"more than one":      {`1 2`, `1 2`, false},
		"hostile depth":      {strings.Repeat("[", 20_000), strings.Repeat("[", 20_000), false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := connector.SameSpec([]byte(test.a), []byte(test.b)); got != test.want {
				t.Errorf("SameSpec(%.50s, %.50s) = %v", test.a, test.b, got)
			}
			if connector.SameSpec([]byte(test.b), []byte(test.a)) != test.want {
				t.Error("the other way round differs")
			}
		})
	}
}

func TestSpecDiff(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		old, new string
		want     []string
	}{
		"nothing": {`{"properties":{"a":{"type":"string"}}}`, `{"properties":{"a":{"type":"string","title":"A"},"b":{}}}`, nil},
		"all kinds": {`{"required":["a"],"properties":{"a":{"type":"string"},"gone":{},"t":{"properties":{"host":{"type":"string"},"old":{}}}}}`,
			`{"required":["a","b"],"properties":{"a":{"type":"integer"},"b":{},"t":{"required":["host"],"properties":{"host":{"type":"string"}}}}}`,
			[]string{`"a" was string and is integer`, `"b" is required now`, `"gone" is gone`, `"t.host" is required now`, `"t.old" is gone`}},
		"widened":      {`{"properties":{"a":{"type":"string"},"b":{"type":"integer"},"c":{"type":"string"}}}`, `{"properties":{"a":{"type":["null","string"]},"b":{"type":"number"},"c":{}}}`, nil},
		"narrowed":     {`{"properties":{"a":{"type":["string","null"]},"b":{}}}`, `{"properties":{"a":{"type":"string"},"b":{"type":"string"}}}`, []string{`"a" was null or string and is string`, `"b" was any type and is string`}},
		"no objects":   {`[]`, `{}`, nil},
		"not JSON":     {`{`, `{}`, nil},
		"odd shapes":   {`{"required":[{},1],"properties":[1]}`, `{"required":"x","properties":{"a":1}}`, nil},
		"odd required": {`{"required":[{},[]]}`, `{"required":[{},[],"a",7]}`, []string{`"a" is required now`}},
		"hostile name": {`{"properties":{"a\n::error::b":{}}}`, `{}`, []string{`"a ::error::b" is gone`}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(test.want, connector.SpecDiff([]byte(test.old), []byte(test.new))); diff != "" {
				t.Errorf("diff (-want +got):\n%s", diff)
			}
		})
	}
	many := connector.SpecDiff([]byte(manySecrets(50)), []byte(`{}`))
	if len(many) != 20 || many[19] != "… and 31 more" {
		t.Errorf("50 changes give %d lines, the last %q", len(many), many[len(many)-1])
	}
}

// TestSyncModesAreTheProtocols holds the sync modes that are accepted to the protocol's own schema.
func TestSyncModesAreTheProtocols(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(protocolDir(t), "airbyte_protocol_v0.json"))
	if err != nil {
		t.Fatal(err)
	}
	var protocol struct {
		Definitions struct{ DestinationSyncMode struct{ Enum []string } }
	}
	if err := json.Unmarshal(text, &protocol); err != nil || len(protocol.Definitions.DestinationSyncMode.Enum) == 0 {
		t.Fatalf("the schema names no sync modes: %v", err)
	}
	modes, err := json.Marshal(protocol.Definitions.DestinationSyncMode.Enum)
	if err != nil {
		t.Fatal(err)
	}
	got, found := connector.ReadSpec(connector.Connector{Type: connector.Destination}, connector.SpecRun{Stdout: []byte(specWith(
		`"documentationUrl":"https://docs.example/x","supported_destination_sync_modes":` + string(modes)))})
	if got == nil || len(found) > 0 {
		t.Errorf("the protocol's modes %s must be accepted: %v", modes, found)
	}
}

func FuzzReadSpec(f *testing.F) {
	f.Add(spec(oneLine(goodSpec)), "", 0)
	f.Add(`{"type":"SPEC","spec":{"connectionSpecification":{"$id":"http://x/y","$ref":"#a","properties":{"t":{"$anchor":"a"}}}}}`, "x", 1)
	f.Add(`{"type":"TRACE","trace":{"type":"ERROR","error":{"message":"m"}}}`, "", 127)
	f.Fuzz(func(t *testing.T, stdout, stderr string, exitCode int) {
		run := connector.SpecRun{Stdout: []byte(stdout), Stderr: []byte(stderr), ExitCode: exitCode}
		got, found := connector.ReadSpec(connector.Connector{Type: connector.Destination}, run)
		checkFindings(t, found)
		if got == nil {
			if len(found) == 0 {
				t.Error("neither a spec nor a finding")
			}
			return
		}
		if !json.Valid(got.Raw) || !connector.SameSpec(got.Raw, got.Raw) {
			t.Errorf("the spec is not JSON or does not equal itself: %s", got.Raw)
		}
		if changes := connector.SpecDiff(got.ConnectionSpecification, got.ConnectionSpecification); len(changes) > 0 {
			t.Errorf("changes against itself: %v", changes)
		}
		if logs := connector.SpecLogs(run); len(logs) > 40_000 {
			t.Errorf("%d bytes of logs", len(logs))
		}
	})
}
