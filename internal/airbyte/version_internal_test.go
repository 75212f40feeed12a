package airbyte

import (
	"net/url"
	"testing"
	"time"
)

func TestCapabilities(t *testing.T) {
	t.Parallel()
	tests := []struct {
		version string
		can     []capability
		not     []capability
	}{
		{"0.50.56", []capability{listWorkspaces}, []capability{updateInWorkspace, rename, specCommand, createWithSpec, brokenUpdate}},
		{"1.0.9", []capability{listWorkspaces}, []capability{rename}},
		{"1.1.0", []capability{listWorkspaces, rename}, []capability{updateInWorkspace}},
		{"1.6", []capability{brokenUpdate}, nil},
		{"1.6.1", []capability{brokenUpdate, listWorkspaces}, []capability{updateInWorkspace}},
		{"1.6.2", nil, []capability{brokenUpdate}},
		{"v1.7.0", []capability{updateInWorkspace}, []capability{listWorkspaces, specCommand}},
		{"2.0.1", []capability{specCommand}, []capability{createWithSpec}},
		{"2.1.0-rc.1", []capability{createWithSpec}, nil},
		{"10.0.0", []capability{createWithSpec, rename}, []capability{listWorkspaces, brokenUpdate}},
		{"dev", []capability{createWithSpec, specCommand, updateInWorkspace}, []capability{listWorkspaces, brokenUpdate}},
		{"", []capability{createWithSpec}, []capability{listWorkspaces}},
	}
	for _, tt := range tests {
		t.Run(tt.version, func(t *testing.T) {
			t.Parallel()
			v := parseVersion(tt.version)
			for _, c := range tt.can {
				if !v.can(c) {
					t.Errorf("can't do %s", c)
				}
			}
			for _, c := range tt.not {
				if v.can(c) {
					t.Errorf("can do %s", c)
				}
			}
		})
	}
}

func TestBaseURL(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"http://localhost:8000":                               "http://localhost:8000",
		"https://airbyte.example.com/":                        "https://airbyte.example.com",
		"https://airbyte.example.com/api":                     "https://airbyte.example.com",
		"https://airbyte.example.com/api/v1/":                 "https://airbyte.example.com",
		"https://airbyte.example.com/api/public/v1":           "https://airbyte.example.com",
		"https://airbyte.example.com/api/public/":             "https://airbyte.example.com",
		"https://example.com/airbyte":                         "https://example.com/airbyte",
		"https://example.com/airbyte/api/v1":                  "https://example.com/airbyte",
		"https://example.com/v1":                              "https://example.com/v1",
		"https://me:secret@example.com/?q=1#f":                "https://example.com",
		"https://airbyte.example.com/workspaces/5ae6/sources": "https://airbyte.example.com",
	} {
		u, err := url.Parse(given)
		if err != nil {
			t.Fatal(err)
		}
		if got := baseURL(u).String(); got != want {
			t.Errorf("%s: got %s, want %s", given, got, want)
		}
	}
}

func TestTokenLife(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	for name, tt := range map[string]struct {
		jwt  string
		want time.Duration
	}{
		"issued and expiring, by another clock": {"e30.eyJpYXQiOjEwMDAsImV4cCI6MTkwMH0.c2ln", 15 * time.Minute},                                                    // iat 1000, exp 1900
		"expiring only":                         {"e30.eyJleHAiOjE3MDAwMDAxODB9.c2ln", 3 * time.Minute},                                                            // exp 1700000180
		"over before it began":                  {"e30.eyJpYXQiOjIwMDAsImV4cCI6MTkwMH0.c2ln", time.Second},                                                         // iat 2000, exp 1900
		"never":                                 {"e30.e30.c2ln", 0},                                                                                               // {}
		"no JWT":                                {"opaque", 0}, "no JSON": {"a.b.c", 0}, "no base64": {"a.%%.c", 0}, "wrong type": {"e30.eyJleHAiOiJ4In0.c2ln", 0}, // exp "x"
	} {
		if got := tokenLife(tt.jwt, now); got != tt.want {
			t.Errorf("%s: got %s, want %s", name, got, tt.want)
		}
	}
}
