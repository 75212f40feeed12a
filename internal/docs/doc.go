// Package docs has no code. Its tests hold the documentation against the program: links lead somewhere, examples parse
// and use inputs and outputs that exist, the shown summary is one that the program writes, and the workflows for GitHub
// are run by act, as they stand, against a registry and an Airbyte stand-in on loopback.
package docs
