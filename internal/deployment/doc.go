// Package deployment is the pulling side: where Airbyte runs connectors, and what that place needs to pull their images.
// On Kubernetes it keeps pull secrets, finds out how Airbyte's connector pods are made and makes one like them; on a
// Docker host it has the engine pull and run the image. What stands in the way is told with what to do about it.
//
// It is not for pushing, and it never asks Airbyte itself: packages registry and airbyte do that, and neither is known
// here. Credentials that push an image never reach a deployment.
package deployment
