package connectors

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// object is a JSON object in a test.
type object map[string]any

// configured is a catalog of streams, each of which has the same modes.
func configured(fields object, streams ...string) object {
	var all []object
	for _, name := range streams {
		stream := object{"stream": object{"name": name}}
		for key, value := range fields {
			stream[key] = value
		}
		all = append(all, stream)
	}
	return object{"streams": all}
}

// ids are the records' data.id.
func ids(all []message) []string {
	var out []string
	for _, r := range of(all, "RECORD") {
		out = append(out, fmt.Sprint(r.get("data", "id")))
	}
	return out
}

// statuses are those of the stream, in their order.
func statuses(all []message) []string {
	var out []string
	for _, m := range of(all, "TRACE") {
		if m.get("type") == "STREAM_STATUS" {
			out = append(out, fmt.Sprint(m.get("stream_status", "status")))
		}
	}
	return out
}

// hello is source-hello built for this machine with its CSV beside it.
func hello(t *testing.T) program {
	t.Helper()
	p := build(t, "./testdata/connectors/source-hello")
	dir, err := Dir(t.Context(), "source-hello")
	if err != nil {
		t.Fatal(err)
	}
	csv, err := os.ReadFile(filepath.Join(dir, "hello.csv"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(p.path), "hello.csv"), csv, 0o644); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestSourceHello(t *testing.T) {
	t.Parallel()
	p := hello(t)
	good := file(t, object{"api_key": "k"})

	declared(t, one(t, p.run(t, 0, "", "spec"), "SPEC"), "api_key")
	if got := one(t, p.run(t, 0, "", "check", "--config", good), "CONNECTION_STATUS").get("status"); got != "SUCCEEDED" {
		t.Errorf("check is %v", got)
	}

	streams, _ := one(t, p.run(t, 0, "", "discover", "--config", good), "CATALOG").get("streams").([]any)
	if len(streams) != 1 {
		t.Fatalf("streams are %v", streams)
	}
	stream := message{body: streams[0].(map[string]any)}
	if stream.get("name") != "hello" || fmt.Sprint(stream.get("json_schema", "properties", "speakers", "type")) != "[null integer]" {
		t.Errorf("the stream is %v", stream.body)
	}

	full := p.run(t, 0, "", "read", "--config", good, "--catalog", file(t, configured(object{"sync_mode": "full_refresh"}, "hello")))
	if got := ids(full); strings.Join(got, " ") != "1 2 3 4 5 6 7 8" {
		t.Errorf("a full refresh reads %v", got)
	}
	if got := of(full, "RECORD")[1].get("data", "greeting"); got != "Guten Tag, Welt" {
		t.Errorf("the second greeting is %v", got)
	}
	if got := of(full, "RECORD")[0].get("data", "speakers"); got != nil {
		t.Errorf("an empty cell is %v", got)
	}
	if got := statuses(full); !slices.Equal(got, []string{"STARTED", "RUNNING", "COMPLETE"}) {
		t.Errorf("statuses are %v", got)
	}
	one(t, full, "STATE")
}

// A sync in pieces reads each row once: every sync goes on where the state of the last one ends.
func TestSourceHelloReadsIncrementally(t *testing.T) {
	t.Parallel()
	p := hello(t)
	for _, cursor := range []string{"updated_at", "id"} {
		t.Run(cursor, func(t *testing.T) {
			t.Parallel()
			config := file(t, object{"api_key": "k", "limit": 3})
			catalog := file(t, configured(object{"sync_mode": "incremental", "cursor_field": []string{cursor}}, "hello"))
			args := []string{"read", "--config", config, "--catalog", catalog}
			var got []string
			for range 4 {
				sync := p.run(t, 0, "", args...)
				got = append(got, strings.Join(ids(sync), " "))
				state := one(t, sync, "STATE")
				if sync[len(sync)-1].kind != "TRACE" || sync[len(sync)-2].kind != "STATE" {
					t.Errorf("the STATE does not follow the records: %v", sync)
				}
				args = append(args[:5:5], "--state", file(t, []any{state.body}))
			}
			if want := []string{"1 2 3", "4 5 6", "7 8", ""}; !slices.Equal(got, want) {
				t.Errorf("four syncs read %q, want %q", got, want)
			}
		})
	}
}

func TestSourceHelloFailsInTheProtocolsWords(t *testing.T) {
	t.Parallel()
	p := hello(t)
	broken := filepath.Join(t.TempDir(), "broken.csv")
	if err := os.WriteFile(broken, []byte("a,b\n1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, config := range map[string]object{
		"no key":          {},
		"no such file":    {"api_key": "k", "file": "nowhere.csv"},
		"a negative size": {"api_key": "k", "limit": -1},
		"a broken file":   {"api_key": "k", "file": broken},
	} {
		status := one(t, p.run(t, 0, "", "check", "--config", file(t, config)), "CONNECTION_STATUS")
		if status.get("status") != "FAILED" || status.get("message") == "" {
			t.Errorf("check with %s answers %v", name, status.body)
		}
		trace := one(t, p.run(t, 1, "", "discover", "--config", file(t, config)), "TRACE")
		if trace.get("error", "failure_type") != "config_error" {
			t.Errorf("discover with %s fails with %v", name, trace.body)
		}
	}
	good := file(t, object{"api_key": "hunter2"})
	for name, args := range map[string][]string{
		"no command":          {},
		"an unknown command":  {"write", "--config", good},
		"an unknown flag":     {"spec", "--what"},
		"no config":           {"check"},
		"no such config":      {"check", "--config", "nowhere.json"},
		"no catalog":          {"read", "--config", good},
		"an unknown stream":   {"read", "--config", good, "--catalog", file(t, configured(object{"sync_mode": "full_refresh"}, "other"))},
		"an unknown mode":     {"read", "--config", good, "--catalog", file(t, configured(object{"sync_mode": "x"}, "hello"))},
		"an unknown cursor":   {"read", "--config", good, "--catalog", file(t, configured(object{"sync_mode": "incremental", "cursor_field": []string{"x"}}, "hello"))},
		"a cursor with holes": {"read", "--config", good, "--catalog", file(t, configured(object{"sync_mode": "incremental", "cursor_field": []string{"speakers"}}, "hello"))},
	} {
		all := p.run(t, 1, "", args...)
		last := all[len(all)-1]
		if text := fmt.Sprint(last.get("error", "message")); last.get("type") != "ERROR" || strings.Contains(text, "hunter2") {
			t.Errorf("%s ends with %v", name, last.body)
		}
	}
}

// lines are a file's lines.
func lines(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

const (
	firstRecord  = `{"type":"RECORD","record":{"stream":"a/../b","data":{"id":1,"big":12345678901234567890},"emitted_at":1700000000000}}`
	secondRecord = `{"type":"RECORD","record":{"stream":"people","namespace":"crm","data":{"name":"Zoë"},"emitted_at":1700000000001}}`
	stateLine    = `{"type":"STATE","state":{"type":"STREAM","stream":{"stream_descriptor":{"name":"people","namespace":"crm"},"stream_state":{"n":1}}}}`
)

func TestDestinationJSONL(t *testing.T) {
	t.Parallel()
	p := build(t, "./testdata/connectors/destination-jsonl")
	spec := one(t, p.run(t, 0, "", "spec"), "SPEC")
	declared(t, spec, "")
	if got := fmt.Sprint(spec.get("supported_destination_sync_modes")); got != "[append overwrite]" {
		t.Errorf("sync modes are %s", got)
	}
	folder := filepath.Join(t.TempDir(), "out")
	config := file(t, object{"folder": folder})
	if got := one(t, p.run(t, 0, "", "check", "--config", config), "CONNECTION_STATUS").get("status"); got != "SUCCEEDED" {
		t.Errorf("check is %v", got)
	}
	if left, err := os.ReadDir(folder); err != nil || len(left) != 0 {
		t.Errorf("check leaves %v (%v)", left, err)
	}
	catalog := file(t, object{"streams": []object{
		{"stream": object{"name": "a/../b"}, "destination_sync_mode": "append"},
		{"stream": object{"name": "people", "namespace": "crm"}, "destination_sync_mode": "overwrite"},
	}})
	log := `{"type":"LOG","log":{"level":"INFO","message":"not for a destination"}}`
	for range 2 {
		all := p.run(t, 0, strings.Join([]string{firstRecord, log, secondRecord, stateLine}, "\n")+"\n",
			"write", "--config", config, "--catalog", catalog)
		if got := one(t, all, "STATE").get("stream", "stream_state", "n"); got != 1.0 {
			t.Errorf("the state comes back as %v", got)
		}
	}
	appended := lines(t, filepath.Join(folder, "a%2F..%2Fb.jsonl"))
	if want := `{"_airbyte_extracted_at":1700000000000,"_airbyte_data":{"id":1,"big":12345678901234567890}}`; !slices.Equal(appended, []string{want, want}) {
		t.Errorf("appending twice gives %q", appended)
	}
	overwritten := lines(t, filepath.Join(folder, "crm@people.jsonl"))
	if want := `{"_airbyte_extracted_at":1700000000001,"_airbyte_data":{"name":"Zoë"}}`; !slices.Equal(overwritten, []string{want}) {
		t.Errorf("overwriting twice gives %q", overwritten)
	}
	// A stream that is to be overwritten and has no records ends up empty.
	p.run(t, 0, "", "write", "--config", config, "--catalog", catalog)
	if got := lines(t, filepath.Join(folder, "crm@people.jsonl")); !slices.Equal(got, []string{""}) {
		t.Errorf("overwriting with nothing gives %q", got)
	}
}

func TestDestinationJSONLFailsInTheProtocolsWords(t *testing.T) {
	t.Parallel()
	p := build(t, "./testdata/connectors/destination-jsonl")
	folder := t.TempDir()
	config := file(t, object{"folder": folder})
	status := one(t, p.run(t, 0, "", "check", "--config", file(t, object{"folder": "relative"})), "CONNECTION_STATUS")
	if status.get("status") != "FAILED" {
		t.Errorf("check of a relative folder answers %v", status.body)
	}
	people := file(t, configured(object{"destination_sync_mode": "append"}, "people"))
	twice := file(t, configured(object{"destination_sync_mode": "append"}, "people", "people"))
	dedup := file(t, configured(object{"destination_sync_mode": "append_dedup"}, "people"))
	for name, c := range map[string]struct {
		catalog, stdin string
	}{
		"an unsupported mode":    {dedup, ""},
		"a stream twice":         {twice, ""},
		"a record of no stream":  {people, firstRecord},
		"something else":         {people, "Exception in thread main"},
		"half a message":         {people, stateLine[:20]},
		"a message of odd shape": {people, `{"type":"RECORD","record":[]}`},
	} {
		all := p.run(t, 1, c.stdin, "write", "--config", config, "--catalog", c.catalog)
		if got := all[len(all)-1]; got.get("type") != "ERROR" {
			t.Errorf("%s ends with %v", name, got.body)
		}
	}
	for _, args := range [][]string{{}, {"read"}, {"check"}, {"write", "--config", config}} {
		if got := one(t, p.run(t, 1, "", args...), "TRACE").get("type"); got != "ERROR" {
			t.Errorf("%v ends with a trace %v", args, got)
		}
	}
}

// api answers as the API that source-manifest reads.
func api(t *testing.T) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/greetings", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Api-Key") != "s3cret" {
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		fmt.Fprintf(w, `{"data":{"greetings":[{"id":1,"text":"hello"},{"id":2,"text":"%s"}]}}`, r.URL.RawQuery)
	})
	mux.HandleFunc("GET /v1/languages", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `[{"code":"en"},{"code":"de"},{"code":"ja"}]`)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}

// declarative is the stand-in for Airbyte's base image built for this machine, with source-manifest in its place.
func declarative(t *testing.T, withManifest bool) program {
	t.Helper()
	p := build(t, "./internal/sandbox/connectors/declarative")
	if !withManifest {
		return p
	}
	dir, err := Dir(t.Context(), "source-manifest")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(filepath.Dir(p.path), "source_declarative_manifest"), os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestSourceManifest(t *testing.T) {
	t.Parallel()
	p, url := declarative(t, true), api(t)
	good := file(t, object{"url": url, "api_key": "s3cret", "language": "de"})

	spec := one(t, p.run(t, 0, "", "spec"), "SPEC")
	declared(t, spec, "api_key")
	if spec.get("connectionSpecification", "properties", "__injected_declarative_manifest") != nil {
		t.Errorf("the spec is the generic one: %v", spec.body)
	}
	if got := one(t, p.run(t, 0, "", "check", "--config", good), "CONNECTION_STATUS").get("status"); got != "SUCCEEDED" {
		t.Errorf("check is %v", got)
	}
	bad := file(t, object{"url": url, "api_key": "wrong"})
	status := one(t, p.run(t, 0, "", "check", "--config", bad), "CONNECTION_STATUS")
	if text := fmt.Sprint(status.get("message")); status.get("status") != "FAILED" || !strings.Contains(text, "401") {
		t.Errorf("check with a wrong key answers %v", status.body)
	}
	streams, _ := one(t, p.run(t, 0, "", "discover", "--config", good), "CATALOG").get("streams").([]any)
	if len(streams) != 2 {
		t.Fatalf("streams are %v", streams)
	}
	if got := (message{body: streams[0].(map[string]any)}).get("source_defined_primary_key"); fmt.Sprint(got) != "[[id]]" {
		t.Errorf("the primary key is %v", got)
	}

	catalog := file(t, configured(object{"sync_mode": "full_refresh"}, "greetings", "languages"))
	all := p.run(t, 0, "", "read", "--config", good, "--catalog", catalog)
	if got := ids(all); strings.Join(got, " ") != "1 2 <nil> <nil> <nil>" {
		t.Errorf("read gives the ids %v", got)
	}
	if got := of(all, "RECORD")[1].get("data", "text"); got != "language=de" {
		t.Errorf("the query was %v", got)
	}
	if states := of(all, "STATE"); len(states) != 2 {
		t.Errorf("%d states for two streams", len(states))
	}
	failed := p.run(t, 1, "", "read", "--config", bad, "--catalog", catalog)
	if got := statuses(failed); !slices.Equal(got, []string{"STARTED", "INCOMPLETE"}) {
		t.Errorf("a stream that fails has the statuses %v", got)
	}
}

// Airbyte's image answers spec even without its manifest, only that it is then the spec of no connector.
func TestDeclarativeBaseFallsBackToTheGenericSpec(t *testing.T) {
	t.Parallel()
	p, url := declarative(t, false), api(t)
	spec := one(t, p.run(t, 0, "", "spec"), "SPEC")
	if spec.get("connectionSpecification", "properties", injectedKey) == nil {
		t.Errorf("the spec is %v", spec.body)
	}
	one(t, p.run(t, 1, "", "check", "--config", file(t, object{})), "TRACE")

	manifest := object{"type": "DeclarativeSource", "check": object{"stream_names": []string{"languages"}},
		"streams": []object{streamOf("languages", url, "GET")}, "spec": object{"connection_specification": object{}}}
	config := file(t, object{injectedKey: manifest})
	if got := one(t, p.run(t, 0, "", "check", "--config", config), "CONNECTION_STATUS").get("status"); got != "SUCCEEDED" {
		t.Errorf("check of an injected manifest is %v", got)
	}
}

const injectedKey = "__injected_declarative_manifest"

// streamOf is a stream of the API, of the shape that the stand-in knows.
func streamOf(name, url, method string) object {
	return object{"type": "DeclarativeStream", "name": name,
		"schema_loader": object{"type": "InlineSchemaLoader", "schema": object{"type": "object"}},
		"retriever": object{"type": "SimpleRetriever",
			"requester":       object{"type": "HttpRequester", "url_base": url + "/v1", "path": "/" + name, "http_method": method},
			"record_selector": object{"type": "RecordSelector", "extractor": object{"type": "DpathExtractor", "field_path": []string{}}}}}
}

// What the stand-in doesn't know it refuses; it never reads something else than the manifest says.
func TestDeclarativeRefusesWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	p, url := declarative(t, false), api(t)
	change := func(edit func(stream object)) object {
		s := streamOf("languages", url, "GET")
		edit(s)
		return object{"type": "DeclarativeSource", "check": object{"stream_names": []string{"languages"}},
			"streams": []object{s}, "spec": object{"connection_specification": object{}}}
	}
	for name, manifest := range map[string]object{
		"another method": change(func(s object) { s["retriever"].(object)["requester"].(object)["http_method"] = "POST" }),
		"a paginator":    change(func(s object) { s["retriever"].(object)["paginator"] = object{"type": "DefaultPaginator"} }),
		"another loader": change(func(s object) { s["schema_loader"].(object)["type"] = "JsonFileSchemaLoader" }),
		"an expression": change(func(s object) {
			s["retriever"].(object)["requester"].(object)["path"] = "{{ now_utc() }}"
		}),
		"a missing stream": change(func(s object) { s["name"] = "other" }),
	} {
		status := one(t, p.run(t, 0, "", "check", "--config", file(t, object{injectedKey: manifest})), "CONNECTION_STATUS")
		if status.get("status") != "FAILED" {
			t.Errorf("check with %s answers %v", name, status.body)
		}
	}
	for name, edit := range map[string]func(object){
		"a reference to nothing": func(s object) { s["retriever"] = object{"$ref": "#/definitions/none"} },
		"a circle":               func(s object) { s["retriever"] = object{"$ref": "#/streams"} },
	} {
		trace := one(t, p.run(t, 1, "", "discover", "--config", file(t, object{injectedKey: change(edit)})), "TRACE")
		if text := fmt.Sprint(trace.get("error", "message")); !strings.Contains(text, "$ref") {
			t.Errorf("%s fails with %s", name, text)
		}
	}
}
