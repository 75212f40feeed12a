// Package buildtest starts real build engines for tests: buildkitd as root and as an ordinary user, Debian's Docker
// engine, and the engine of moby's main line with either image store. It also makes the base images that test builds
// start from, out of Debian packages and Go. It is for tests only and works on Linux only, so that its users are files
// with a build constraint.
//
// Every engine is process 1 of its own process and mount namespaces. That has two effects. When it ends, however it
// ends, and be it because the test binary was killed, the kernel ends all of its containers and undoes all of its mounts;
// a small shell that waits for the test binary to let go of a pipe then deletes its folder. And nothing of it is ever
// seen in the machine's mount table, /run or /etc. This takes root; without it, and where a program is missing, a test
// is skipped and says why, and fails when the variable CI is "true".
//
// Programs that Debian does not have in the wanted version are built once from their modules, into
// $AIRBYTE_PUBLISH_TEST_CACHE, or else airbyte-publish-test in the user's cache folder. The first build takes minutes,
// more than "go test" gives a package by default: run "go test -timeout 40m -run '^TestPrograms$'" here beforehand, as
// CI does.
package buildtest
