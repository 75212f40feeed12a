// Package kubetest starts a real Kubernetes API server with etcd for tests, with access control on, lays out in it what
// Airbyte's charts install, and plays the part of a kubelet: there are no nodes, so pods get their status and events from
// a test, in the words of real kubelets and container runtimes. It is for tests only and works on Linux only.
//
// One server serves a test binary; each test has a namespace of its own. It ends, and its folder goes, when the test binary
// does, however that ends: a small shell waits for the end of a pipe. The API server is built once from its module, into
// the cache of package buildtest; etcd is Debian's. Where a program is missing a test is skipped and says why, and fails
// when the variable CI is "true". The first build takes minutes: run "go test -timeout 60m -run '^TestPrograms$'" here
// beforehand, as CI does.
package kubetest
