package deployment

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// configKey is the key of a pull secret's data.
const configKey = corev1.DockerConfigJsonKey

// dockerConfig is a docker configuration. Whatever is in it beside auths is kept as it is.
type dockerConfig struct {
	auths map[string]json.RawMessage
	rest  map[string]json.RawMessage
}

// auth is the entry of one registry.
type auth struct {
	Username string `json:"username,omitempty"`
	Password string `json:"password,omitempty"`
	Auth     string `json:"auth,omitempty"`
}

func parseDockerConfig(content []byte) (dockerConfig, error) {
	c := dockerConfig{auths: map[string]json.RawMessage{}}
	if len(bytes.TrimSpace(content)) == 0 {
		return c, nil
	}
	if err := json.Unmarshal(content, &c.rest); err != nil {
		return c, errors.New("it is not JSON")
	}
	if raw, ok := c.rest["auths"]; ok {
		if err := json.Unmarshal(raw, &c.auths); err != nil || c.auths == nil {
			return c, errors.New("its auths are no object")
		}
	}
	return c, nil
}

func (c dockerConfig) encode() []byte {
	all := map[string]any{}
	for key, value := range c.rest {
		all[key] = value
	}
	all["auths"] = c.auths
	// Maps of JSON values always encode, with their keys sorted.
	content, _ := json.Marshal(all)
	return content
}

// set puts in an entry and tells whether that changed anything. Other spellings of the same registry are taken out, for
// a kubelet tries them too.
func (c dockerConfig) set(cr Credentials) bool {
	key := authKey(cr.Host)
	entry, _ := json.Marshal(auth{Username: cr.Username, Password: cr.Password,
		Auth: base64.StdEncoding.EncodeToString([]byte(cr.Username + ":" + cr.Password))})
	changed := false
	for other := range c.auths {
		if other != key && sameRegistry(other, cr.Host) {
			delete(c.auths, other)
			changed = true
		}
	}
	if held, ok := c.auths[key]; ok && sameEntry(held, entry) {
		return changed
	}
	c.auths[key] = entry
	return true
}

func sameEntry(a, b json.RawMessage) bool {
	ua, pa, oka := readEntry(a)
	ub, pb, okb := readEntry(b)
	return oka && okb && ua == ub && pa == pb
}

// readEntry takes an entry's user name and password from whichever of its two forms it has. A kubelet believes auth.
func readEntry(raw json.RawMessage) (username, password string, ok bool) {
	var a auth
	if json.Unmarshal(raw, &a) != nil {
		return "", "", false
	}
	if a.Auth != "" {
		decoded, err := base64.StdEncoding.DecodeString(a.Auth)
		if err != nil {
			return "", "", false
		}
		username, password, ok = strings.Cut(string(decoded), ":")
		return username, strings.TrimRight(password, "\x00"), ok
	}
	return a.Username, a.Password, a.Username != "" || a.Password != ""
}

// entryHost is the host in an entry's key, which may be a URL and may have a path.
func entryHost(key string) string {
	_, rest, found := strings.Cut(key, "://")
	if !found {
		rest = key
	}
	host, _, _ := strings.Cut(rest, "/")
	return strings.ToLower(strings.TrimSuffix(host, ":443"))
}

// sameRegistry tells whether an entry's key stands for the whole registry, and not for some path on it.
func sameRegistry(key, host string) bool {
	_, rest, found := strings.Cut(key, "://")
	if !found {
		rest = key
	}
	_, path, _ := strings.Cut(strings.TrimSuffix(rest, "/"), "/")
	whole := path == "" || path == "v1" || path == "v2"
	return whole && hubless(entryHost(key)) == hubless(strings.ToLower(strings.TrimSuffix(host, ":443")))
}

// hubless gives Docker Hub's names one form.
func hubless(host string) string {
	if adviceFor(host).name == "Docker Hub" {
		return "docker.io"
	}
	return host
}

// covers tells whether a kubelet takes the entry for the image's registry and repository.
func covers(key string, i Image) bool {
	_, rest, found := strings.Cut(key, "://")
	if !found {
		rest = key
	}
	host, path, _ := strings.Cut(strings.TrimSuffix(rest, "/"), "/")
	host = strings.ToLower(strings.TrimSuffix(host, ":443"))
	if hub := hubless(host); hub == "docker.io" {
		// A kubelet looks under this name only.
		return i.host() == "docker.io" && host == "index.docker.io" || host == "docker.io" && i.host() == "docker.io"
	}
	if !matchHost(host, i.host()) {
		return false
	}
	path = strings.TrimPrefix(path, "v1")
	path = strings.Trim(strings.TrimPrefix(path, "v2"), "/")
	_, repository, _ := strings.Cut(string(i.Repository), "/")
	return path == "" || repository == path || strings.HasPrefix(repository, path+"/")
}

// matchHost matches part by part, where a part of the pattern may be or hold a star.
func matchHost(pattern, host string) bool {
	ph, pp, _ := strings.Cut(pattern, ":")
	hh, hp, _ := strings.Cut(host, ":")
	p, h := strings.Split(ph, "."), strings.Split(hh, ".")
	if pp != hp || len(p) != len(h) {
		return false
	}
	for n := range p {
		before, after, star := strings.Cut(p[n], "*")
		if !star && p[n] != h[n] || star && (len(h[n]) < len(before)+len(after) || !strings.HasPrefix(h[n], before) || !strings.HasSuffix(h[n], after)) {
			return false
		}
	}
	return true
}

// PullSecret is a pull secret to be made.
type PullSecret struct {
	Name string
	// Namespace is where connectors' pods run; empty in a manifest leaves the choice to whoever applies it.
	Namespace string
	Entries   []Credentials
}

func (s PullSecret) object(config []byte) map[string]any {
	metadata := map[string]any{"name": s.Name, "labels": map[string]string{"app.kubernetes.io/managed-by": fieldManager}}
	if s.Namespace != "" {
		metadata["namespace"] = s.Namespace
	}
	return map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": string(corev1.SecretTypeDockerConfigJson),
		"data": map[string]string{configKey: base64.StdEncoding.EncodeToString(config)}}
}

// config is the secret's docker configuration, beginning from what is there already.
func (s PullSecret) config(held []byte) (content []byte, changed bool, err error) {
	c, err := parseDockerConfig(held)
	if err != nil {
		return nil, false, err
	}
	for _, e := range s.Entries {
		changed = c.set(e) || changed
	}
	return c.encode(), changed, nil
}

// Manifest is the secret as YAML, to be applied by whoever has the right to.
func (s PullSecret) Manifest() (string, error) {
	config, _, err := s.config(nil)
	if err != nil {
		return "", err
	}
	content, err := yaml.Marshal(s.object(config))
	return string(content), err
}

// Encoded are what the manifest shows of the credentials, to be hidden: the whole configuration, and each entry's user name
// and password, in base64.
func (s PullSecret) Encoded() []string {
	// A configuration that begins from nothing can be read.
	config, _, _ := s.config(nil)
	all := []string{base64.StdEncoding.EncodeToString(config)}
	for _, e := range s.Entries {
		all = append(all, base64.StdEncoding.EncodeToString([]byte(e.Username+":"+e.Password)))
	}
	return all
}

// SameRegistry tells whether two names stand for one registry in a docker configuration.
func SameRegistry(a, b string) bool { return authKey(a) == authKey(b) }

// HasSecret makes sure that a pull secret is there.
func (c *Cluster) HasSecret(ctx context.Context, namespace, name string) error {
	conn, err := c.connect()
	if err != nil {
		return err
	}
	var held corev1.Secret
	err = conn.get(ctx, namespace, "secrets", name, &held)
	bad := &fault.Error{Code: fault.BadPullSecret, Op: "have connectors' pods use", Object: "Secret " + name + " in namespace " + namespace}
	switch {
	case isStatus(err, http.StatusNotFound):
		bad.Cause = "it is not there"
		bad.Remedy = "Name a registry and give pull-username and pull-password to have it made; for Amazon ECR apply what --ecr-refresher prints, and run its job once. Another secret is named by pull-secret."
	case err != nil:
		return err
	case held.Type != corev1.SecretTypeDockerConfigJson && held.Type != corev1.SecretTypeDockercfg:
		bad.Cause, bad.Remedy = fault.Bounded(fmt.Sprintf("its type is %s, which a kubelet passes over", held.Type)), "A pull secret has the type kubernetes.io/dockerconfigjson: name another by pull-secret."
	default:
		return nil
	}
	return bad
}

// Outcome is what became of an object.
type Outcome string

// The outcomes.
const (
	Created   Outcome = "created"
	Changed   Outcome = "changed"
	Unchanged Outcome = "unchanged"
)

// ApplySecret creates the secret or merges its entries into the one that is there. Entries for other registries stay. A
// field that somebody else manages is taken only with force. The error FieldConflict says who manages it.
func (c *Cluster) ApplySecret(ctx context.Context, s PullSecret, force bool) (Outcome, error) {
	conn, err := c.connect()
	if err != nil {
		return "", err
	}
	first, lost := Outcome(""), error(nil)
	for attempt := 1; ; attempt++ {
		w, err := conn.applySecret(ctx, s, force)
		again := attempt < attempts
		switch {
		case err == nil && (w.blind || w.young && first == ""):
			// Nothing tells the API server that an apply is to create or to fail. Another run that saw no secret may have
			// written over this one's entries, or does so now: then they are put in once more.
			if first == "" {
				first = w.outcome
			}
			lost = errors.Join(lost, w.lost)
			if !again || c.options.Sleep(ctx, settleTime) != nil {
				return first, lost
			}
		case err == nil && first != "":
			return first, lost
		case err == nil:
			return w.outcome, nil
		case again && isStatus(err, http.StatusConflict) && !managed(err):
			// Between reading and writing somebody else has written: what they wrote is read and merged as well.
		case again && w.blind && (mayBeDone(err) || isStatus(err, http.StatusTooManyRequests)) && c.options.Sleep(ctx, time.Duration(attempt*attempt)*250*time.Millisecond) == nil:
			// It is not sent anew without a look: somebody else may have made the secret since.
		default:
			return "", err
		}
	}
}

// settleTime is longer than another run takes between reading and writing. It is compared with times in whole seconds, of
// which a difference may be a second too much.
const settleTime = 2 * time.Second

// written is what an apply did.
type written struct {
	outcome Outcome
	// blind tells that there was no secret when it was looked for, so that no version guarded the write.
	blind bool
	// young tells that the secret was made so shortly before that another run may still write blindly.
	young bool
	// lost says that the write took away what another run had put in, too late for that run to see it.
	lost error
}

func (c *connection) applySecret(ctx context.Context, s PullSecret, force bool) (written, error) {
	var held corev1.Secret
	err := c.get(ctx, s.Namespace, "secrets", s.Name, &held)
	absent := isStatus(err, http.StatusNotFound)
	if err != nil && !absent {
		return written{}, err
	}
	object := "Secret " + s.Name + " in namespace " + s.Namespace
	if !absent && held.Type != corev1.SecretTypeDockerConfigJson {
		return written{}, &fault.Error{Code: fault.BadPullSecret, Op: "put credentials into", Object: object,
			Cause: fmt.Sprintf("it exists with the type %s, which can't be changed", held.Type), Remedy: "Choose another name by pull-secret, or delete that one if nothing needs it."}
	}
	config, changed, err := s.config(held.Data[configKey])
	if err != nil {
		return written{}, &fault.Error{Code: fault.BadPullSecret, Op: "put credentials into", Object: object, Cause: "what it holds can't be read: " + err.Error(),
			Remedy: "Choose another name by pull-secret, or mend or delete that one.", Err: err}
	}
	if !absent && !changed {
		return written{outcome: Unchanged}, nil
	}
	if !absent && held.Immutable != nil && *held.Immutable {
		return written{}, &fault.Error{Code: fault.BadPullSecret, Op: "put credentials into", Object: object, Cause: "it is immutable",
			Remedy: "Choose another name by pull-secret, or delete that one (kubectl -n " + s.Namespace + " delete secret " + s.Name + ") and run again with the credentials of all its registries."}
	}
	applied := s.object(config)
	q := url.Values{"fieldManager": {fieldManager}}
	if force {
		q.Set("force", "true")
	}
	if !absent {
		// With the version that was merged, a write in between is a conflict and not lost.
		applied["metadata"].(map[string]any)["resourceVersion"] = held.ResourceVersion
	}
	w, status := written{outcome: Changed, blind: absent}, 0
	var answer corev1.Secret
	err = c.call(ctx, request{method: http.MethodPatch, api: core, namespace: s.Namespace, resource: "secrets", name: s.Name,
		query: q, form: applyPatch, body: applied, op: "apply", blind: absent, status: &status}, &answer)
	switch {
	case err != nil && managed(err):
		return written{}, conflict(err, object)
	case err != nil:
		return written{blind: absent}, err
	case absent && status == http.StatusCreated:
		w.outcome = Created
	case absent:
		w.lost = lateFault(object, answer)
	}
	w.young = ageOf(answer) < 2*settleTime
	return w, nil
}

// ageOf is how old a secret was when it was last written by us. Both times have whole seconds.
func ageOf(s corev1.Secret) time.Duration {
	return writtenByUs(s.ManagedFields).Sub(s.CreationTimestamp.Time)
}

// lateFault is the error for a secret that another run had made and looked at once more before this one, which had seen
// none, wrote over it; nil while that run still looks after its entries.
func lateFault(object string, s corev1.Secret) error {
	// An apply that changes nothing leaves the times as they are.
	late := ageOf(s)
	if late < settleTime {
		return nil
	}
	return &fault.Error{Code: fault.FieldConflict, Op: "apply", Object: object,
		Cause:  fmt.Sprintf("another run made it while this one was under way, and this one wrote over it %s later: the other's entries may be lost, this one's are in it", late),
		Remedy: "Run the other one again: its entries are merged then."}
}

// managed tells a conflict over who manages a field from one over versions.
func managed(err error) bool { return len(managers(err)) > 0 }

// managers are those who manage the fields that an apply conflicts over.
func managers(err error) []string {
	e, ok := errors.AsType[*apiError](err)
	if !ok || e.code != http.StatusConflict || e.status.Details == nil {
		return nil
	}
	var all []string
	for _, cause := range e.status.Details.Causes {
		// The message is: conflict with "MANAGER" using v1 at TIME.
		if parts := strings.Split(cause.Message, `"`); string(cause.Type) == "FieldManagerConflict" && len(parts) >= 3 && !slices.Contains(all, parts[1]) {
			all = append(all, parts[1])
		}
	}
	return all
}

// keepers are field managers that put back what they manage when they run again.
var keepers = []string{"helm", "argocd", "flux", "kustomize", "external-secrets", "externalsecrets", "vault", "sealed", "terraform", "pulumi", "reflector"}

func conflict(err error, object string) error {
	who := strings.Join(managers(err), ", ")
	remedy := "Nothing would be lost, since all entries are kept: add --force-conflicts to take the field over."
	switch {
	case strings.Contains(who, refresherManager):
		remedy = "It is the job that renews ECR's tokens, and it knows no other entries: choose another name by pull-secret, and have both named to Airbyte (--wire). With --force-conflicts the job could renew the tokens no more."
	case slices.ContainsFunc(keepers, func(k string) bool { return strings.Contains(strings.ToLower(who), k) }):
		remedy = "That one puts its own content back when it runs again: add the entry there, or choose another name by pull-secret. --force-conflicts takes the field over until then."
	}
	return &fault.Error{Code: fault.FieldConflict, Op: "apply", Object: object, Cause: fault.Bounded("its content is managed by " + who), Remedy: remedy, Err: err}
}
