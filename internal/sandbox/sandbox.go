// Package sandbox is a registry and an Airbyte on loopback: an embedded, strict OCI distribution registry, and a
// stand-in for Airbyte's API with the habits of its real servers, switchable by version. They are what
// `airbyte-publish sandbox` starts, and what the tests of the other packages publish into. It is no Airbyte: it syncs
// nothing, and it keeps nothing after it is closed.
package sandbox
