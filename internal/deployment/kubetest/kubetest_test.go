//go:build linux

package kubetest

import "testing"

// TestPrograms makes what is dear before the tests that need it, whose time limit is too short for that.
func TestPrograms(t *testing.T) { Programs(t) }

func TestStart(t *testing.T) {
	t.Parallel()
	n := Start(t).Namespace(t)
	n.Apply(t, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: there}\ndata: {a: b}\n")
	var held struct{ Data map[string]string }
	if !n.Get(t, "ConfigMap", "there", &held) || held.Data["a"] != "b" {
		t.Errorf("read back %v", held)
	}
}
