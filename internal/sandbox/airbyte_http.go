package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
)

// maxAirbyteBody bounds a request to the stand-in, in bytes (Micronaut's default).
const maxAirbyteBody = 10 << 20

// route is an endpoint of Airbyte's API.
type route struct {
	// in are the versions that have the endpoint.
	in span
	// anonymous endpoints ask for no token.
	anonymous bool
	// write marks those that change definitions, actors or grants.
	write bool
	// serve does the work. A nil value is a 204.
	serve func(a *Airbyte, ctx context.Context, b *body) (any, error)
}

// routes are the endpoints that the stand-in knows, by method and path.
func routes() map[string]route {
	r := map[string]route{
		"GET /api/v1/health":                              {anonymous: true, serve: (*Airbyte).health},
		"GET /api/v1/instance_configuration":              {in: hasInstanceConfig, anonymous: true, serve: (*Airbyte).instanceConfiguration},
		"POST /api/v1/applications/token":                 {in: hasTokenEndpoint, anonymous: true, serve: (*Airbyte).token},
		"POST /api/public/v1/applications/token":          {in: hasPublicToken, anonymous: true, serve: (*Airbyte).publicToken},
		"GET /api/public/v1/health":                       {in: hasPublicAPI, anonymous: true, serve: (*Airbyte).publicHealth},
		"GET /api/public/v1/workspaces":                   {in: hasPublicAPI, serve: (*Airbyte).publicWorkspaces},
		"POST /api/v1/workspaces/list":                    {in: hasWorkspaceList, serve: (*Airbyte).listWorkspaces},
		"POST /api/v1/workspaces/list_by_organization_id": {in: hasOrganizationLists, serve: (*Airbyte).listOrganizationWorkspaces},
		"POST /api/v1/workspaces/get":                     {serve: (*Airbyte).getWorkspace},
		"POST /api/v1/commands/run/spec":                  {in: hasSpecCommand, serve: (*Airbyte).runSpecCommand},
		"POST /api/v1/commands/run/check":                 {in: hasCheckCommand, serve: (*Airbyte).runCheckCommand},
		"POST /api/v1/commands/status":                    {in: hasCheckCommand, serve: (*Airbyte).commandStatus},
		"POST /api/v1/commands/cancel":                    {in: hasCheckCommand, serve: (*Airbyte).cancelCommand},
		"POST /api/v1/commands/output/spec":               {in: hasSpecCommand, serve: (*Airbyte).specCommandOutput},
		"POST /api/v1/commands/output/check":              {in: hasCheckCommand, serve: (*Airbyte).checkCommandOutput},
	}
	for _, k := range kinds {
		definitions, actors := "POST /api/v1/"+k.word+"_definitions/", "POST /api/v1/"+k.word+"s/"
		for name, e := range map[string]route{
			"list":               {serve: k.listDefinitions},
			"list_for_workspace": {serve: k.listForWorkspace},
			"list_private":       {serve: k.listPrivate},
			"list_latest":        {serve: k.listLatest},
			"get":                {serve: k.getDefinition},
			"get_for_workspace":  {serve: k.getForWorkspace},
			"get_for_scope":      {in: hasScopes, serve: k.getForScope},
			"create_custom":      {write: true, serve: k.createCustom},
			"update":             {write: true, serve: k.updateDefinition},
			"delete":             {write: true, serve: k.deleteDefinition},
			"grant_definition":   {in: hasScopes, write: true, serve: k.grantDefinition},
			"revoke_definition":  {in: hasScopes, write: true, serve: k.revokeDefinition},
		} {
			r[definitions+name] = e
		}
		for name, e := range map[string]route{
			"list":             {serve: k.listActors},
			"search":           {serve: k.searchActors},
			"get":              {serve: k.getActor},
			"create":           {write: true, serve: k.createActor},
			"check_connection": {serve: k.checkConnection},
		} {
			r[actors+name] = e
		}
		r["POST /api/v1/"+k.word+"_definition_specifications/get"] = route{serve: k.getSpecification}
		r["POST /api/v1/actor_definition_versions/get_for_"+k.word] = route{in: hasOrganizationLists, serve: k.getVersion}
	}
	return r
}

// ServeHTTP answers as the instance, or the proxy in front of it, would.
func (a *Airbyte) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, ok := strings.CutPrefix(r.URL.Path, strings.TrimSuffix(a.o.PathPrefix, "/"))
	if !ok {
		proxyPage(w, http.StatusNotFound, "404 Not Found")
		return
	}
	sent, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxAirbyteBody))
	if err != nil {
		status := http.StatusBadRequest
		if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
			status = http.StatusRequestEntityTooLarge
		}
		w.WriteHeader(status)
		return
	}
	inner := r.Clone(r.Context())
	inner.URL.Path = a.ownPath(path)
	inner.Body = io.NopCloser(bytes.NewReader(sent))
	if a.o.OnRequest != nil {
		a.o.OnRequest(inner, sent)
	}
	log := AirbyteRequest{Method: r.Method, Path: inner.URL.Path, Write: a.routes[r.Method+" "+inner.URL.Path].write}
	seen := &statusWriter{ResponseWriter: w}
	defer func() {
		log.Status = seen.status
		a.mu.Lock()
		a.requests = append(a.requests, log)
		a.mu.Unlock()
	}()
	f := a.script.take(inner, func(at string) bool { return strings.HasSuffix(inner.URL.Path, at) })
	server{
		work:   http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { a.serve(w, r, sent) }),
		expire: a.ExpireTokens,
		later:  a.later,
	}.befall(f, seen, inner)
}

// ownPath maps Airbyte Cloud's public API, which has no /api/public, to the path that self-managed instances have.
func (a *Airbyte) ownPath(path string) string {
	if a.o.Edition == Cloud && strings.HasPrefix(path, "/v1/") {
		return "/api/public" + path
	}
	return path
}

func (a *Airbyte) serve(w http.ResponseWriter, r *http.Request, sent []byte) {
	if r.Method == http.MethodGet && r.URL.Path == showPath {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_ = a.Show(w)
		return
	}
	if a.o.Auth.Mode == BasicAuth && !a.o.Auth.basicOK(r) {
		w.Header().Set("WWW-Authenticate", `Basic realm="Welcome to Airbyte"`)
		proxyPage(w, http.StatusUnauthorized, "401 Authorization Required")
		return
	}
	if r.URL.Path != "/api" && !strings.HasPrefix(r.URL.Path, "/api/") {
		webapp(w, r)
		return
	}
	e, known := a.routes[r.Method+" "+r.URL.Path]
	known = known && a.is(e.in) && a.offers(r.URL.Path)
	if a.o.Auth.Mode == ClientCredentials && (!known || !e.anonymous) {
		if !a.tokenOK(r) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if !known {
			// The framework denies what no route allows before it looks for the route.
			a.fail(w, forbidden())
			return
		}
	}
	if !known {
		a.fail(w, framework(http.StatusNotFound, "Page Not Found"))
		return
	}
	b, err := readBody(r, sent)
	if err == nil {
		var answer any
		// What Airbyte has begun it carries on after the caller has gone.
		if answer, err = e.serve(a, a.ctx, b); err == nil {
			a.reply(w, answer)
			return
		}
	}
	a.fail(w, err)
}

// offers tells whether this edition and sign-in have an endpoint that the version knows.
func (a *Airbyte) offers(path string) bool {
	switch {
	case strings.HasSuffix(path, "/applications/token"):
		return a.o.Auth.Mode == ClientCredentials
	case path == "/api/v1/instance_configuration":
		return a.o.Edition != Cloud
	}
	return true
}

func (a *Airbyte) reply(w http.ResponseWriter, answer any) {
	switch answer := answer.(type) {
	case nil:
		w.WriteHeader(http.StatusNoContent)
	case string:
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, answer)
	default:
		writeJSON(w, http.StatusOK, answer)
	}
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value)
}

// proxyPage is a page that an nginx in front of Airbyte sends.
func proxyPage(w http.ResponseWriter, status int, title string) {
	w.Header().Set("Content-Type", "text/html")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, "<html>\r\n<head><title>"+title+"</title></head>\r\n<body>\r\n<center><h1>"+title+
		"</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n")
}

// webapp answers for Airbyte's web pages, which answer every path: a URL that is wrong by a path looks alive.
func webapp(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		proxyPage(w, http.StatusMethodNotAllowed, "405 Not Allowed")
		return
	}
	w.Header().Set("Content-Type", "text/html")
	_, _ = io.WriteString(w, "<!doctype html><html lang=\"en\"><head><title>Airbyte</title></head>"+
		"<body><div id=\"root\"></div></body></html>\n")
}

// statusWriter remembers the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (s *statusWriter) WriteHeader(status int) {
	if s.status == 0 {
		s.status = status
	}
	s.ResponseWriter.WriteHeader(status)
}

func (s *statusWriter) Write(p []byte) (int, error) {
	if s.status == 0 {
		s.status = http.StatusOK
	}
	return s.ResponseWriter.Write(p)
}

var errNoRegistry = errors.New("the stand-in was given no way to pull images")
