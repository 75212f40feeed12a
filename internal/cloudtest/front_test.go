package cloudtest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/airbyte-publish/airbyte-publish/internal/sandbox"
)

// call is what a request to a registry is for.
type call struct {
	step       sandbox.Step
	repository string
	// reference is a tag, a digest or an upload's id.
	reference string
}

// push tells whether the call needs the right to push.
func (c call) push() bool {
	switch c.step {
	case sandbox.StepUploadStart, sandbox.StepUploadChunk, sandbox.StepUploadFinish, sandbox.StepUploadStatus,
		sandbox.StepUploadCancel, sandbox.StepManifestPut:
		return true
	}
	return false
}

// actions are the rights that the call needs.
func (c call) actions() []string {
	switch {
	case c.step == sandbox.StepPing:
		return nil
	case c.push():
		return []string{"push"}
	}
	return []string{"pull"}
}

var (
	callPath  = regexp.MustCompile(`^/v2/(.+)/(blobs/uploads|blobs|manifests|tags)/([^/]*)$`)
	callSteps = map[string]sandbox.Step{
		"HEAD blobs": sandbox.StepBlobHead, "GET blobs": sandbox.StepBlobGet,
		"POST blobs/uploads": sandbox.StepUploadStart, "PATCH blobs/uploads": sandbox.StepUploadChunk,
		"PUT blobs/uploads": sandbox.StepUploadFinish, "GET blobs/uploads": sandbox.StepUploadStatus,
		"DELETE blobs/uploads": sandbox.StepUploadCancel, "HEAD manifests": sandbox.StepManifestHead,
		"GET manifests": sandbox.StepManifestGet, "PUT manifests": sandbox.StepManifestPut, "GET tags": sandbox.StepTags,
	}
)

func callOf(r *http.Request) (call, bool) {
	if r.URL.Path == "/v2/" {
		return call{step: sandbox.StepPing}, true
	}
	m := callPath.FindStringSubmatch(r.URL.Path)
	if m == nil {
		return call{}, false
	}
	step, ok := callSteps[r.Method+" "+m[2]]
	return call{step: step, repository: m[1], reference: m[3]}, ok
}

// gate is how a registry's callers sign in.
type gate interface {
	// admit tells whether a call may go on; when not, it has been answered.
	admit(rw http.ResponseWriter, r *http.Request, c call) bool
	// expire ends everything that was issued so far.
	expire()
}

// knob makes something go wrong at certain calls.
type knob struct {
	step sandbox.Step
	// skip calls pass unharmed first; times are hit then, a negative number all.
	skip, times int
	// first tells that it comes before the gate.
	first bool
	// do tells whether it has answered.
	do func(http.ResponseWriter, *http.Request) bool
}

// front is a cloud's registry: a strict one behind the cloud's own sign-in, with the cloud's own words.
type front struct {
	w     *world
	host  string
	store *sandbox.Registry
	gate  gate
	// other serves what is not the registry's protocol: token servers on the same host.
	other http.Handler
	// headers are on every answer.
	headers http.Header

	// missing, denied and immutable answer in the cloud's words.
	missing, denied func(http.ResponseWriter, call)
	immutable       func(http.ResponseWriter, call)

	mu sync.Mutex
	// repositories are those that exist; nil means that a push makes them.
	repositories map[string]bool
	// closed tells that nobody may push.
	closed bool
	// fixed tells that tags don't move.
	fixed bool
	// slow is how long each upload of bytes takes.
	slow  time.Duration
	knobs []*knob
	hits  []time.Time
	// used are the repositories that something was put into.
	used map[string]bool
}

// newFront makes a registry and gives the world its host.
func (w *world) newFront(host string, g gate) *front {
	f := &front{w: w, host: host, gate: g, used: map[string]bool{}, store: sandbox.NewRegistry(sandbox.RegistryOptions{
		Dir: w.dir, Location: sandbox.QueryLocation, RedirectBlobs: w.blobHosts[host]})}
	f.missing = func(rw http.ResponseWriter, c call) {
		refuse(rw, http.StatusNotFound, "NAME_UNKNOWN", "repository name not known to registry", nil)
	}
	f.denied = func(rw http.ResponseWriter, _ call) {
		refuse(rw, http.StatusForbidden, "DENIED", "requested access to the resource is denied", nil)
	}
	f.immutable = func(rw http.ResponseWriter, c call) {
		refuse(rw, http.StatusConflict, "DENIED", "the tag "+c.reference+" is immutable", nil)
	}
	w.t.Cleanup(func() {
		if err := f.store.Close(); err != nil {
			w.blame("close the registry: %v", err)
		}
	})
	w.site(host, f)
	if blobs := w.blobHosts[host]; blobs != "" {
		w.site(strings.TrimPrefix(blobs, "https://"), f.store.BlobHost())
	}
	return f
}

func refuse(rw http.ResponseWriter, status int, code, message string, detail any) {
	e := map[string]any{"code": code, "message": message}
	if detail != nil {
		e["detail"] = detail
	}
	rw.Header().Set("Content-Type", "application/json")
	rw.WriteHeader(status)
	_ = json.NewEncoder(rw).Encode(map[string]any{"errors": []any{e}})
}

func (f *front) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	for k, v := range f.headers {
		rw.Header()[k] = v
	}
	c, ok := callOf(r)
	if !ok {
		if f.other == nil {
			http.NotFound(rw, r)
			return
		}
		f.other.ServeHTTP(rw, r)
		return
	}
	rw.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	if f.meddle(rw, r, c, true) || !f.gate.admit(rw, r, c) || f.meddle(rw, r, c, false) || f.refused(rw, r, c) {
		return
	}
	if (c.step == sandbox.StepUploadChunk || c.step == sandbox.StepUploadFinish) && r.ContentLength != 0 {
		f.mu.Lock()
		slow := f.slow
		f.mu.Unlock()
		time.Sleep(slow)
	}
	if from := r.URL.Query().Get("from"); c.step == sandbox.StepUploadStart && from != "" && !f.mayMount(r, from) {
		// What can't be mounted is uploaded.
		q := r.URL.Query()
		q.Del("mount")
		q.Del("from")
		r.URL.RawQuery = q.Encode()
	}
	f.store.ServeHTTP(rw, r)
}

// mayMount tells whether the caller may read the repository that a blob is to be mounted from.
func (f *front) mayMount(r *http.Request, from string) bool {
	b, ok := f.gate.(*bearer)
	if !ok {
		return true
	}
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	b.mu.Lock()
	defer b.mu.Unlock()
	g := b.issued[token]
	return g != nil && slices.Contains(g.granted, from+":pull")
}

// refused answers calls that the registry's state does not let pass.
func (f *front) refused(rw http.ResponseWriter, r *http.Request, c call) bool {
	f.mu.Lock()
	missing := f.repositories != nil && c.step != sandbox.StepPing && !f.repositories[c.repository]
	closed, fixed := f.closed, f.fixed
	// One that exists and has nothing in it, the store does not know.
	empty := f.repositories[c.repository] && !f.used[c.repository]
	f.used[c.repository] = f.used[c.repository] || c.push()
	f.mu.Unlock()
	switch {
	case missing:
		_, _ = io.Copy(io.Discard, r.Body)
		f.missing(rw, c)
	case closed && c.push():
		_, _ = io.Copy(io.Discard, r.Body)
		f.denied(rw, c)
	case empty && c.step == sandbox.StepTags:
		answerJSON(rw, http.StatusOK, map[string]any{"name": c.repository, "tags": []string{}})
	case empty && (c.step == sandbox.StepManifestGet || c.step == sandbox.StepManifestHead):
		refuse(rw, http.StatusNotFound, "MANIFEST_UNKNOWN", "Requested image not found", nil)
	case fixed && c.step == sandbox.StepManifestPut && f.store.Tag(c.repository, c.reference) != "":
		_, _ = io.Copy(io.Discard, r.Body)
		f.immutable(rw, c)
	default:
		return false
	}
	return true
}

// meddle does what a knob says.
func (f *front) meddle(rw http.ResponseWriter, r *http.Request, c call, first bool) bool {
	f.mu.Lock()
	var hit *knob
	for _, k := range f.knobs {
		if k.first != first || k.step != "" && k.step != c.step || k.times == 0 {
			continue
		}
		if k.skip > 0 {
			k.skip--
			continue
		}
		if k.times > 0 {
			k.times--
		}
		hit = k
		f.hits = append(f.hits, time.Now())
		break
	}
	f.mu.Unlock()
	return hit != nil && hit.do(rw, r)
}

func (f *front) add(k knob) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.knobs = append(f.knobs, &k)
}

// hit tells how often a knob was in effect.
func (f *front) hit() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.hits)
}

// expireAt ends everything that was issued when a step is reached.
func (f *front) expireAt(step sandbox.Step, skip int) {
	f.add(knob{step: step, skip: skip, times: 1, first: true, do: func(http.ResponseWriter, *http.Request) bool {
		f.gate.expire()
		return false
	}})
}

// throttle asks callers to wait.
func (f *front) throttle(step sandbox.Step, times int, retryAfter string) {
	f.add(knob{step: step, times: times, do: func(rw http.ResponseWriter, r *http.Request) bool {
		throttled(rw, r, retryAfter)
		return true
	}})
}

func throttled(rw http.ResponseWriter, r *http.Request, retryAfter string) {
	_, _ = io.Copy(io.Discard, r.Body)
	rw.Header().Set("Retry-After", retryAfter)
	refuse(rw, http.StatusTooManyRequests, "TOOMANYREQUESTS", "Rate exceeded", nil)
}

// hangUp ends the connection.
func (f *front) hangUp(step sandbox.Step, times int) {
	f.add(knob{step: step, times: times, first: true, do: func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }})
}

// set changes the registry's state.
func (f *front) set(change func(*front)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

// seed puts another image under the tag, past the sign-in, and returns its digest.
func (f *front) seed(repository string) string {
	f.set(func(f *front) { f.used[repository] = true })
	server := httptest.NewServer(f.store)
	defer server.Close()
	img, err := random.Image(64, 1)
	if err != nil {
		panic(err)
	}
	ref, err := name.NewTag(strings.TrimPrefix(server.URL, "http://") + "/" + repository + ":" + tag)
	if err != nil {
		panic(err)
	}
	if err := remote.Write(ref, img); err != nil {
		panic(err)
	}
	digest, err := img.Digest()
	if err != nil {
		panic(err)
	}
	return digest.String()
}

// tagged is the digest under the tag.
func (f *front) tagged(repository string) string { return f.store.Tag(repository, tag) }

// wrote tells whether anything was uploaded or tagged through the sign-in.
func (f *front) wrote() bool {
	return slices.ContainsFunc(f.w.seen(f.host), func(r request) bool {
		return strings.HasPrefix(r.path, "/v2/") && r.method == http.MethodPut && r.status < 300
	})
}

// bearer is a gate of tokens that a token server issues for scopes.
type bearer struct {
	w *world
	// host is the registry's; realm and service are the challenge's.
	host, realm, service string
	// life is how long tokens are good; 0 is five minutes.
	life time.Duration
	// may tells what a caller may do.
	may func(who, repository, action string) bool
	// also accepts a token that is not the token server's.
	also func(token string) (who string, ok bool)

	mu     sync.Mutex
	issued map[string]*grant
	// asked are the scopes of every token so far.
	asked [][]string
}

// grant is what a token is good for.
type grant struct {
	who     string
	expires time.Time
	granted []string
}

func (b *bearer) expire() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.issued)
}

var scopeGrammar = regexp.MustCompile(`^repository:([a-z0-9]+(?:(?:\.|_|__|-+|/)[a-z0-9]+)*):((?:pull|push|delete|metadata_read|\*)(?:,(?:pull|push|delete|metadata_read|\*))*)$`)

// issue makes a token for the scopes, with as much of them as the caller may have.
func (b *bearer) issue(who string, scopes []string) (token string, life time.Duration, err error) {
	life = b.life
	if life == 0 {
		life = 5 * time.Minute
	}
	g := &grant{who: who, expires: b.w.now().Add(life)}
	for _, scope := range scopes {
		m := scopeGrammar.FindStringSubmatch(scope)
		if m == nil {
			return "", 0, fmt.Errorf("the scope %q is not one", scope)
		}
		for action := range strings.SplitSeq(m[2], ",") {
			one := m[1] + ":" + action
			if b.may == nil || b.may(who, m[1], action) {
				g.granted = append(g.granted, one)
			}
		}
	}
	token = b.w.secret("registry token", "registry-token-"+b.w.random(), b.host)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.issued == nil {
		b.issued = map[string]*grant{}
	}
	b.issued[token] = g
	b.asked = append(b.asked, scopes)
	return token, life, nil
}

// answerToken issues a token and answers with it.
func (b *bearer) answerToken(rw http.ResponseWriter, who string, scopes []string) {
	token, life, err := b.issue(who, scopes)
	if err != nil {
		refuse(rw, http.StatusBadRequest, "UNSUPPORTED", err.Error(), nil)
		return
	}
	answerJSON(rw, http.StatusOK, map[string]any{"token": token, "access_token": token, "expires_in": int(life.Seconds()),
		"issued_at": b.w.now().UTC().Format(time.RFC3339)})
}

// scopesOf are the scopes of a request for a token.
func scopesOf(values []string) []string {
	var all []string
	for _, v := range values {
		all = append(all, strings.Fields(v)...)
	}
	return all
}

func (b *bearer) admit(rw http.ResponseWriter, r *http.Request, c call) bool {
	token, sent := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	b.mu.Lock()
	g := b.issued[token]
	b.mu.Unlock()
	if g != nil && !b.w.now().Before(g.expires) {
		g = nil
	}
	if g == nil && sent && b.also != nil {
		if who, ok := b.also(token); ok {
			return b.admitAs(rw, who, c)
		}
	}
	if g == nil {
		reason := ""
		if sent {
			reason = "invalid_token"
		}
		b.challenge(rw, c, reason)
		return false
	}
	for _, action := range c.actions() {
		// Distribution, and so most of them, answers this however often a token with the scope was asked for.
		if !slices.Contains(g.granted, c.repository+":"+action) {
			_, _ = io.Copy(io.Discard, r.Body)
			b.challenge(rw, c, "insufficient_scope")
			return false
		}
	}
	return true
}

// admitAs admits a caller who is known without a token of ours.
func (b *bearer) admitAs(rw http.ResponseWriter, who string, c call) bool {
	for _, action := range c.actions() {
		if b.may != nil && !b.may(who, c.repository, action) {
			refuse(rw, http.StatusForbidden, "DENIED", "requested access to the resource is denied", nil)
			return false
		}
	}
	return true
}

func (b *bearer) challenge(rw http.ResponseWriter, c call, reason string) {
	text := fmt.Sprintf("Bearer realm=%q,service=%q", b.realm, b.service)
	if actions := c.actions(); actions != nil {
		scope := "repository:" + c.repository + ":pull"
		if c.push() {
			scope += ",push"
		}
		text += fmt.Sprintf(",scope=%q", scope)
	}
	if reason != "" {
		text += fmt.Sprintf(",error=%q", reason)
	}
	rw.Header().Set("WWW-Authenticate", text)
	refuse(rw, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required", nil)
}
