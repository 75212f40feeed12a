package config_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/airbyte-publish/airbyte-publish/internal/config"
	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

func TestDefaults(t *testing.T) {
	t.Parallel()
	c := world{}.mustLoad(t)
	if !c.Register || c.DryRun || c.Jobs != 4 || c.IfTagExists != config.Fail || c.Airbyte.Timeout != 15*time.Minute ||
		c.Registry != (config.Registry{Provider: "auto"}) || c.Airbyte.URL.String() != "https://airbyte.example.com" || c.WorkspaceIDs != nil || c.Warnings != nil {
		t.Errorf("%+v", c)
	}
	got := c.Connectors[0]
	want := connector.Connector{Dir: got.Dir, Label: ".", Type: connector.Source, Name: "ERP", DocumentationURL: "https://example.com/erp",
		Repository: "ghcr.io/acme/source-erp", Tag: "1.2.3", NameGiven: true, Metadata: got.Metadata, Recipe: connector.Recipe{Platforms: []string{"linux/amd64"}}}
	if diff := cmp.Diff(want, got); diff != "" || got.Metadata == nil || got.Metadata.File != "metadata.yaml" || len(c.Connectors) != 1 {
		t.Errorf("connectors (-want +got):\n%s", diff)
	}
}

// TestPrecedence takes the sources away one by one, the strongest first.
func TestPrecedence(t *testing.T) {
	t.Parallel()
	w := world{
		flags: map[string]string{"name": "flag"},
		env:   map[string]string{"AIRBYTE_PUBLISH_NAME": "variable", "AIRBYTE_PUBLISH_INPUTS": `{"name": "json"}`, "INPUT_NAME": "input"},
	}
	expect := func(want string) {
		t.Helper()
		if got := w.mustLoad(t).Connectors[0].Name; got != want {
			t.Errorf("name is %q, want %q", got, want)
		}
	}
	expect("flag")
	w.flags["name"] = ""
	expect("variable")
	w.env["AIRBYTE_PUBLISH_NAME"] = " \n"
	expect("json")
	// Where the JSON is, variables named INPUT_… are somebody else's.
	w.env["AIRBYTE_PUBLISH_INPUTS"] = `{"name": "", "jobs": null}`
	expect("ERP")
	w.env["AIRBYTE_PUBLISH_INPUTS"] = ""
	expect("input")
	w.env["INPUT_NAME"] = ""
	expect("ERP")
	w.files = metadata("  name: ERP\n", "")
	expect("source-erp")
}

func TestPrecedenceOfSecretsAndTheirFiles(t *testing.T) {
	t.Parallel()
	files := map[string]string{"metadata.yaml": erp, "token": "from-the-file\r\n\n", "other": "from-the-other"}
	tests := []struct {
		name  string
		world world
		want  string
	}{
		{"variable", world{env: env("airbyte-access-token", "from-variable\n")}, "from-variable"},
		{"file", world{env: env("airbyte-access-token-file", "token")}, "from-the-file"},
		{"flag of a file over a variable", world{env: env("airbyte-access-token", "v"), flags: map[string]string{"airbyte-access-token-file": "token"}}, "from-the-file"},
		{"variable over an action's file", world{env: env("airbyte-access-token", "v", "inputs", `{"airbyte-access-token-file": "nowhere"}`)}, "v"},
		{"variable's file over the action", world{env: env("airbyte-access-token-file", "other", "inputs", `{"airbyte-access-token": "a"}`)}, "from-the-other"},
		{"action with dashes", world{env: map[string]string{"INPUT_AIRBYTE-ACCESS-TOKEN": "a"}}, "a"},
		{"only white space", world{env: env("airbyte-access-token", " \n", "inputs", `{"airbyte-access-token": "a"}`)}, "a"},
		{"spaces count", world{env: env("airbyte-access-token", " a b ")}, " a b "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.world.files = files
			if got := tt.world.mustLoad(t).Airbyte.AccessToken; got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestKeyFilesOfManyLines: a service account's key comes as it was downloaded, or in base64 as a terminal prints it.
func TestKeyFilesOfManyLines(t *testing.T) {
	t.Parallel()
	key := "{\n  \"type\": \"service_account\",\n  \"private_key\": \"-----BEGIN\\nKEY\"\n}\n"
	compact := `{"type":"service_account","private_key":"-----BEGIN\nKEY"}`
	plain := base64.StdEncoding.EncodeToString([]byte(key))
	for given, want := range map[string]string{key: compact, plain[:20] + "\n" + plain[20:] + "\n": plain} {
		c := world{files: map[string]string{"metadata.yaml": erp, "key": given}, env: env("registry-username", "_json_key", "registry-password-file", "key")}.mustLoad(t)
		if c.Registry.Password != want || !slices.Contains(c.Secrets(), want) {
			t.Errorf("got %q", c.Registry.Password)
		}
	}
}

// TestEveryInputHasAnEffect sets each input of the table alone, or with what it needs, and looks for a difference.
func TestEveryInputHasAnEffect(t *testing.T) {
	t.Parallel()
	cert, key := certificate(t)
	const id = "12345678-90ab-cdef-1234-567890abcdef"
	files := map[string]string{"metadata.yaml": erp, "other/Dockerfile": "", "secret": "from a file", "key.pem": key, "headers": "X-A: b"}
	gitTag := map[string]string{"CI_COMMIT_TAG": "release-1.2.3"}
	tests := map[string]struct {
		value string
		with  map[string]string
		// wrong tells that without the input the rest is wrong.
		wrong bool
	}{
		"connectors":                     {value: ".\nother", with: env("image", "ghcr.io/acme/{connector}", "tag", "1", "connector-type", "source")},
		"changed-since":                  {value: "origin/main"},
		"connector-type":                 {value: "destination"},
		"name":                           {value: "Other"},
		"documentation-url":              {value: "https://example.com/other"},
		"resource-requirements":          {value: `{"default":{"cpu_limit":"1"}}`},
		"dry-run":                        {value: "TRUE"},
		"jobs":                           {value: "64"},
		"docker-host":                    {value: "ssh://airbyte@host.example"},
		"load":                           {value: "kind:airbyte-abctl"},
		"image":                          {value: "localhost:5000/{connector}"},
		"tag":                            {value: "2.0.0-rc.1"},
		"tag-pattern":                    {value: `release-(?P<version>.+)`, with: gitTag, wrong: true},
		"extra-tags":                     {value: "latest, stable\n1.2"},
		"if-tag-exists":                  {value: "overwrite"},
		"source":                         {value: "oci:{connector}"},
		"dockerfile":                     {value: "docker/Dockerfile"},
		"target":                         {value: "final"},
		"platforms":                      {value: "linux/amd64,linux/arm64"},
		"build-args":                     {value: "VERSION=1=2\nFROM_HERE", with: map[string]string{"FROM_HERE": "x"}},
		"build-secrets":                  {value: "id=npm,env=NPM_TOKEN\nid=file,src=secret", with: map[string]string{"NPM_TOKEN": "x"}},
		"labels":                         {value: "team=data"},
		"cache-from":                     {value: "type=registry,ref=ghcr.io/acme/cache\nghcr.io/acme/other"},
		"cache-to":                       {value: "type=inline"},
		"builder":                        {value: "docker"},
		"buildkit-host":                  {value: "unix:///run/a.sock,tcp://10.0.0.1:1234?cacert=ca.pem"},
		"provenance":                     {value: "true"},
		"sbom":                           {value: "true"},
		"registry-provider":              {value: "generic"},
		"oidc-token":                     {value: "a.b.c"},
		"oidc-token-file":                {value: "secret"},
		"aws-role-arn":                   {value: "arn:aws:iam::123456789012:role/ci/publish"},
		"gcp-workload-identity-provider": {value: "projects/1/locations/global/workloadIdentityPools/ci/providers/github"},
		"gcp-service-account": {value: "publish@acme.iam.gserviceaccount.com",
			with: env("gcp-workload-identity-provider", "projects/1/locations/global/workloadIdentityPools/ci/providers/github")},
		"azure-tenant-id":             {value: id, with: env("azure-client-id", id), wrong: true},
		"azure-client-id":             {value: id, with: env("azure-tenant-id", id), wrong: true},
		"dockerhub-connection-id":     {value: id},
		"create-repository":           {value: "true"},
		"pull-username":               {value: "u", with: env("pull-password", "p"), wrong: true},
		"pull-password":               {value: "p", with: env("pull-username", "u"), wrong: true},
		"pull-password-file":          {value: "secret", with: env("pull-username", "u"), wrong: true},
		"registry-username":           {value: "u", with: env("registry-password", "p")},
		"registry-password":           {value: "p", with: env("registry-username", "u"), wrong: true},
		"registry-password-file":      {value: "secret", with: env("registry-username", "u"), wrong: true},
		"registry-token":              {value: "t"},
		"registry-token-file":         {value: "secret"},
		"registry-ca-certificate":     {value: cert},
		"registry-client-certificate": {value: cert, with: env("registry-client-key", key), wrong: true},
		"registry-client-key":         {value: key, with: env("registry-client-certificate", cert), wrong: true},
		"registry-client-key-file":    {value: "key.pem", with: env("registry-client-certificate", cert), wrong: true},
		"registry-plain-http":         {value: "True"},
		"airbyte-url":                 {value: "http://localhost:8000/prefix/"},
		"airbyte-client-id":           {value: "c", with: env("airbyte-client-secret", "s"), wrong: true},
		"airbyte-client-secret":       {value: "s", with: env("airbyte-client-id", "c"), wrong: true},
		"airbyte-client-secret-file":  {value: "secret", with: env("airbyte-client-id", "c"), wrong: true},
		"airbyte-username":            {value: "u", with: env("airbyte-password", "p"), wrong: true},
		"airbyte-password":            {value: "p", with: env("airbyte-username", "u"), wrong: true},
		"airbyte-password-file":       {value: "secret", with: env("airbyte-username", "u"), wrong: true},
		"airbyte-access-token":        {value: "t"},
		"airbyte-access-token-file":   {value: "secret"},
		"airbyte-headers":             {value: "X-A: b, c\n\nx-a: d\nProxy-Authorization: Bearer e"},
		"airbyte-headers-file":        {value: "headers"},
		"airbyte-ca-certificate":      {value: cert},
		"workspace-ids":               {value: id + "," + strings.ToUpper(id)},
		"definition-id":               {value: id},
		"register":                    {value: "false"},
		"airbyte-timeout":             {value: "1h30m"},
		"verify-pull":                 {value: "kubernetes"},
		"kubeconfig":                  {value: "{apiVersion: v1}"},
		"kube-context":                {value: "production"},
		"kube-namespace":              {value: "airbyte"},
		"pull-secret":                 {value: "regcred"},
	}
	for _, input := range config.Inputs() {
		t.Run(input.Name, func(t *testing.T) {
			t.Parallel()
			tt, ok := tests[input.Name]
			if !ok {
				t.Fatal("this input has no case")
			}
			with := map[string]string{"AIRBYTE_PUBLISH_UNUSED": ""}
			for name, text := range tt.with {
				with[name] = text
			}
			before, err := world{files: files, env: with}.load(t)
			if (err != nil) != tt.wrong {
				t.Fatalf("without it: %v", err)
			}
			with[input.Env()] = tt.value
			after := world{files: files, env: with}.mustLoad(t)
			// Where the input puts right what is wrong without it, that is the effect.
			if !tt.wrong && describe(t, before) == describe(t, after) {
				t.Errorf("no effect: %s", describe(t, after))
			}
		})
	}
}

// describe writes all of a Config but the folders, which are another one for each test.
func describe(t *testing.T, c *config.Config) string {
	t.Helper()
	clone := *c
	clone.Connectors = slices.Clone(c.Connectors)
	for i := range clone.Connectors {
		clone.Connectors[i].Dir = ""
	}
	tls := []any{clone.Registry.TLS != nil, clone.Airbyte.TLS != nil}
	if clone.Registry.TLS != nil {
		tls = append(tls, len(clone.Registry.TLS.Certificates), clone.Registry.TLS.RootCAs != nil)
	}
	clone.Registry.TLS, clone.Airbyte.TLS = nil, nil
	text, err := json.Marshal([]any{clone, tls})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestValuesAreConverted(t *testing.T) {
	t.Parallel()
	const id = "12345678-90ab-cdef-1234-567890abcdef"
	cert, key := certificate(t)
	c := world{
		files: map[string]string{"metadata.yaml": erp, "ca.pem": "comment\n" + cert + cert},
		env: env("workspace-ids", strings.ToUpper(id)+"\n"+id+",,\r\n 22345678-90ab-cdef-1234-567890abcdef ", "extra-tags", "latest\n1.2,latest",
			"airbyte-headers", "X-A: b, c\n\nx-a: d:e\n", "resource-requirements", "\n  default:\n    cpu_limit: '1'\n  jobSpecific: []\n",
			"inputs", `{"jobs": 7, "dry-run": true, "register": "", "name": null}`,
			"registry-ca-certificate", "ca.pem", "registry-client-certificate", cert, "registry-client-key", key),
	}.mustLoad(t)
	if want := []string{id, "22345678-90ab-cdef-1234-567890abcdef"}; !slices.Equal(c.WorkspaceIDs, want) {
		t.Errorf("workspace ids %q", c.WorkspaceIDs)
	}
	if want := (http.Header{"X-A": {"b, c", "d:e"}}); !cmp.Equal(c.Airbyte.Headers, want) {
		t.Errorf("headers %q", c.Airbyte.Headers)
	}
	if want := []string{"latest", "1.2"}; !slices.Equal(c.Connectors[0].ExtraTags, want) {
		t.Errorf("extra tags %q", c.Connectors[0].ExtraTags)
	}
	if got := string(c.Connectors[0].ResourceRequirements); got != `{"default":{"cpu_limit":"1"}}` {
		t.Errorf("resource requirements %s", got)
	}
	if c.Jobs != 7 || !c.DryRun || !c.Register {
		t.Errorf("jobs %d, dry run %t, register %t", c.Jobs, c.DryRun, c.Register)
	}
	if tls := c.Registry.TLS; tls == nil || tls.MinVersion != 0x0303 || tls.RootCAs == nil || len(tls.Certificates) != 1 {
		t.Errorf("TLS of the registry: %+v", tls)
	}
	if c.Airbyte.TLS != nil {
		t.Errorf("TLS of Airbyte: %+v", c.Airbyte.TLS)
	}
}

// TestAllProblemsAtOnce makes a mistake of each kind: none may hide another.
func TestAllProblemsAtOnce(t *testing.T) {
	t.Parallel()
	broken := strings.NewReplacer("ghcr.io/", "", "1.2.3", "latest").Replace(erp)
	_, err := world{
		files: map[string]string{"a/metadata.yaml": broken, "b/metadata.yaml": "data: 1", "c/metadata.yaml": strings.ReplaceAll(erp, "1.2.3", "'a b'")},
		args:  []string{"a", "b", "c", "d"},
		flags: map[string]string{"jobs": "many"},
		env: env("airbyte-url", "example.com", "dry-run", "yes", "registry-username", "u", "airbyte-client-id", "c", "workspace-ids", "x,y",
			"airbyte-ca-certificate", "nowhere", "name", "x", "jobz", "3", "airbyte-timeout", "soon", "if-tag-exists", "?"),
	}.load(t)
	want := map[fault.Code]int{fault.UnknownInput: 1, fault.InvalidInput: 7, fault.MissingInput: 2, fault.UnreadableFile: 1, fault.ConflictingInputs: 1,
		fault.BadMetadata: 1, fault.NoConnector: 1, fault.BadRepository: 1, fault.MutableTag: 1, fault.BadTag: 1}
	if diff := cmp.Diff(want, codes(err)); diff != "" {
		t.Errorf("codes (-want +got):\n%s\n%v", diff, err)
	}
}

// TestVerbsThatAskNoAirbyte shows that what is set for Airbyte need not be right where nobody asks it, and is masked all the same.
func TestVerbsThatAskNoAirbyte(t *testing.T) {
	t.Parallel()
	if c := (world{verb: config.Lint, env: env("airbyte-url", "")}).mustLoad(t); c.Airbyte.URL != nil {
		t.Errorf("URL %v", c.Airbyte.URL)
	}
	half := env("airbyte-url", "x", "airbyte-client-id", "", "airbyte-client-secret", "client-secret-1")
	c := (world{verb: config.Lint, env: half}).mustLoad(t)
	if !slices.Contains(c.Secrets(), "client-secret-1") {
		t.Errorf("masked are %d values, and the secret is not among them", len(c.Secrets()))
	}
	for verb, want := range map[config.Verb]int{config.Lint: 0, config.PullSecret: 0, config.VerifyPull: 0, config.Plan: 2, config.Publish: 2, config.Doctor: 2} {
		_, err := world{verb: verb, env: half}.load(t)
		if got := strings.Count(fmt.Sprint(err), `input "airbyte-`); got != want {
			t.Errorf("%s: %d problems, want %d: %v", verb, got, want, err)
		}
	}
}

func TestMutableTagsWhereTheyDoNoHarm(t *testing.T) {
	t.Parallel()
	for _, with := range []map[string]string{
		env("tag", "latest", "register", "false", "airbyte-url", ""),
		env("tag", "latest", "if-tag-exists", "overwrite"),
		env("extra-tags", "latest"),
	} {
		world{env: with}.mustLoad(t)
	}
}

func TestPlainHTTPWarnsOnlyOfCredentialsThatLeaveTheMachine(t *testing.T) {
	t.Parallel()
	tests := []struct {
		env  map[string]string
		want int
	}{
		{env("airbyte-url", "http://airbyte.example.com"), 0},
		{env("airbyte-url", "http://airbyte.example.com", "airbyte-access-token", "t"), 1},
		{env("airbyte-url", "http://airbyte.example.com", "airbyte-headers", "X-A: b"), 1},
		{env("airbyte-url", "http://localhost:8000", "airbyte-access-token", "t"), 0},
		{env("airbyte-url", "http://[::1]:8000", "airbyte-access-token", "t"), 0},
		{env("registry-plain-http", "true", "registry-token", "t"), 1},
		{env("registry-plain-http", "true"), 0},
		{env("registry-plain-http", "true", "registry-token", "t", "image", "127.0.0.1:5000/x"), 0},
	}
	for _, tt := range tests {
		warnings := world{env: tt.env}.mustLoad(t).Warnings
		if len(warnings) != tt.want {
			t.Errorf("%v: %v", tt.env, warnings)
		}
		for _, w := range warnings {
			if w.Code != fault.PlainCredentials || w.Severity != connector.Warning || w.Remedy == "" {
				t.Errorf("%+v", w)
			}
		}
	}
}

func TestSecretsHoldsEverySource(t *testing.T) {
	t.Parallel()
	_, key := certificate(t)
	c, err := world{
		files: map[string]string{"metadata.yaml": erp, "token": "file-s3cret\n"},
		flags: map[string]string{"registry-token": "flag-s3cret"},
		env: env("registry-username", "me", "registry-password", `p&"<s3cret>`, "airbyte-access-token-file", "token", "registry-client-key", key,
			"airbyte-client-secret", `quoted-s3cret"`,
			"airbyte-headers", "Proxy-Authorization: Bearer header-s3cret", "airbyte-url", "https://me:url-s3cret%21@example.com",
			"inputs", `{"registry-password": "overridden-s3cret"}`),
	}.load(t)
	if err == nil {
		t.Fatal("a secret as a flag is a mistake")
	}
	secrets := c.Secrets()
	for _, want := range []string{"flag-s3cret", "file-s3cret", "overridden-s3cret", `p&"<s3cret>`, "Bearer header-s3cret", "header-s3cret",
		`quoted-s3cret"`, "url-s3cret%21", "url-s3cret!", strings.TrimSpace(key)} {
		if !slices.Contains(secrets, want) {
			t.Errorf("lacks %q", want)
		}
	}
	if slices.Contains(secrets, "") {
		t.Error("holds what is no secret")
	}
}

// TestNoSecretInAnyError gives random secrets by random sources beside random mistakes.
func TestNoSecretInAnyError(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	const alphabet = "abcXYZ019-_:@/%&\"'<>\\ \n\t{}[],=é"
	text := func() string {
		s := []rune("S3cr3t")
		for range 8 + random.IntN(20) {
			s = append(s, []rune(alphabet)[random.IntN(len([]rune(alphabet)))])
		}
		return string(s)
	}
	mistakes := []string{"", "many", "a b", "https://", "-----BEGIN", "latest", "{connector}", ","}
	problems := 0
	for range 300 {
		w := world{env: map[string]string{}, flags: map[string]string{}, files: map[string]string{"metadata.yaml": erp}}
		var given []string
		action := map[string]string{}
		for _, input := range config.Inputs() {
			if !input.Secret {
				if random.IntN(3) == 0 && input.Kind != config.File {
					w.env[input.Env()] = mistakes[random.IntN(len(mistakes))]
				}
				continue
			}
			secret := text()
			switch random.IntN(6) {
			case 0:
				w.env[input.Env()] = secret
			case 1:
				action[input.Name] = secret
			case 2:
				w.files[input.Name] = secret
				w.flags[input.Name+"-file"] = input.Name
			case 3:
				w.env[input.Env()+"S"] = secret // a mistyped name
			case 4:
				w.flags[input.Name] = secret
			default:
				w.env["AIRBYTE_PUBLISH_AIRBYTE_URL"] = "https://user:" + secret + "@example.com"
			}
			given = append(given, secret)
		}
		if raw, err := json.Marshal(action); err == nil && len(action) > 0 {
			w.env["AIRBYTE_PUBLISH_INPUTS"] = string(raw)
		}
		c, err := w.load(t)
		problems += len(fault.List(err))
		shown := fmt.Sprint(err, c.Warnings)
		for _, secret := range append(given, "S3cr3t") {
			if strings.Contains(shown, secret) {
				t.Fatalf("shows %q:\n%s", secret, shown)
			}
		}
	}
	if problems < 1000 {
		t.Errorf("only %d problems: the mistakes are too few to prove anything", problems)
	}
}

// TestTypesAgree keeps the values of if-tag-exists and connector-type from drifting apart from the types behind them.
func TestTypesAgree(t *testing.T) {
	t.Parallel()
	values := map[string][]string{}
	for _, i := range config.Inputs() {
		values[i.Name] = i.Values
	}
	if want := []string{string(config.Fail), string(config.Skip), string(config.Overwrite)}; !slices.Equal(values["if-tag-exists"], want) {
		t.Error(values["if-tag-exists"])
	}
	if want := []string{string(connector.Source), string(connector.Destination)}; !slices.Equal(values["connector-type"], want) {
		t.Error(values["connector-type"])
	}
	if _, err := image.ParseTagPattern(image.DefaultTagPattern); err != nil {
		t.Error(err)
	}
}

// GitHub hands over the defaults of action.yml as if a person had given them; they must not count as that.
func TestDefaultsOfTheActionAreNotGiven(t *testing.T) {
	t.Parallel()
	given := map[string]string{"source": "oci:x", "image": "ghcr.io/acme/source-x", "tag": "1.0.0"}
	for _, i := range config.Inputs() {
		if _, ok := given[i.Name]; !ok {
			given[i.Name] = i.Default
		}
	}
	inputs, err := json.Marshal(given)
	if err != nil {
		t.Fatal(err)
	}
	// There is no connector's folder here: with "connectors" given that would be wrong.
	c := world{files: map[string]string{"README.md": ""}, env: env("inputs", string(inputs), "buildkit-host", "unix:///x", "builder", "buildkit")}.mustLoad(t)
	if len(c.Connectors) != 1 || c.Connectors[0].Dir != "" {
		t.Errorf("%+v", c.Connectors)
	}
}
