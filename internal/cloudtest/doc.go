// Package cloudtest runs the shipped program, unchanged and as a child process, against the clouds that it signs in to:
// AWS, Google, Azure, Docker Hub, GitHub and GitLab, as doubles on loopback that are as strict as the real ones.
// It has tests alone.
//
// A world is all of the internet that a child gets to see: a proxy that leads every https host to one listener, which
// makes a certificate for whatever name is asked for. Each request is written down with the known secrets that were in
// it; a host that the world doesn't have, and a secret at a host that it is not for, fail the test. After each run the
// child's output and its files are searched for secrets as well.
//
// The matrix (TestMatrix) holds every way to sign in against everything that may go wrong with it, and prints the
// outcome as a table. The doubles themselves are held against the clouds' own client libraries (clients_test.go).
package cloudtest
