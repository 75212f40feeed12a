package host

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

const jobToken = "header.eyJzdWIiOiJyZXBvOmFjbWUvZXJwIn0.signature-of-the-job"

// tokenService answers as GitHub's does, after as many failures as there are statuses.
func tokenService(t *testing.T, failures ...int) (url string, asked *atomic.Int32) {
	t.Helper()
	asked = &atomic.Int32{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := int(asked.Add(1))
		switch {
		case n <= len(failures):
			http.Error(w, "not now", failures[n-1])
		case r.Header.Get("Authorization") != "Bearer right-to-ask":
			http.Error(w, "who are you", http.StatusUnauthorized)
		case r.URL.Query().Get("audience") != "sts.amazonaws.com" || r.URL.Query().Get("api-version") != "2.0":
			http.Error(w, "for whom", http.StatusBadRequest)
		default:
			_, _ = w.Write([]byte(`{"count":1,"value":"` + jobToken + `"}`))
		}
	}))
	t.Cleanup(s.Close)
	return s.URL + "/token?api-version=2.0", asked
}

func TestIDTokenOfGitHub(t *testing.T) {
	t.Parallel()
	w := gitHubWorld(t)
	url, asked := tokenService(t, http.StatusServiceUnavailable, http.StatusTooManyRequests)
	w.env["ACTIONS_ID_TOKEN_REQUEST_URL"], w.env["ACTIONS_ID_TOKEN_REQUEST_TOKEN"] = url, "right-to-ask"
	h := Detect(w.options())
	token, err := h.IDToken(t.Context(), "sts.amazonaws.com")
	if err != nil || token != jobToken || asked.Load() != 3 {
		t.Fatalf("%q, %v, asked %d times", token, err, asked.Load())
	}
	if got := h.Redact("it is " + jobToken); strings.Contains(got, "signature") || !strings.Contains(w.stdout.String(), "::add-mask::"+jobToken) {
		t.Errorf("the token is not masked: %q, %s", got, w.stdout.String())
	}
}

func TestNoIDToken(t *testing.T) {
	t.Parallel()
	refusing, asked := tokenService(t, http.StatusForbidden)
	for name, tt := range map[string]struct {
		env    []string
		remedy string
	}{
		"a laptop":             {nil, "AIRBYTE_PUBLISH_OIDC_TOKEN"},
		"GitLab":               {[]string{"GITLAB_CI=true"}, `id_tokens: { AIRBYTE_PUBLISH_OIDC_TOKEN: { aud: "sts.amazonaws.com" } }`},
		"GitHub without right": {[]string{"GITHUB_ACTIONS=true"}, "id-token: write"},
		"GitHub refuses": {[]string{"GITHUB_ACTIONS=true", "ACTIONS_ID_TOKEN_REQUEST_URL=" + refusing, "ACTIONS_ID_TOKEN_REQUEST_TOKEN=right-to-ask"},
			"id-token: write"},
		"no address": {[]string{"GITHUB_ACTIONS=true", "ACTIONS_ID_TOKEN_REQUEST_URL=%", "ACTIONS_ID_TOKEN_REQUEST_TOKEN=right-to-ask"}, "runner"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Detect(newWorld(t, tt.env...).options()).IDToken(t.Context(), "sts.amazonaws.com")
			f, ok := errors.AsType[*fault.Error](err)
			if !ok || f.Code != fault.NoIDToken || !strings.Contains(f.Error(), tt.remedy) || strings.Contains(f.Error(), "right-to-ask") {
				t.Errorf("got %v, want %s with %q", err, fault.NoIDToken, tt.remedy)
			}
		})
	}
	t.Cleanup(func() {
		if asked.Load() != 1 {
			t.Errorf("a refusal was asked again, %d times", asked.Load())
		}
	})
}
