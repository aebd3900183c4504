// Where the schemas of the Kubernetes objects come from: modules that are read, never built (schemas.py).
module schemas

go 1.26

require (
	github.com/envoyproxy/gateway v1.8.1
	github.com/kserve/kserve v0.20.0
	github.com/prometheus-operator/prometheus-operator v0.85.0
	k8s.io/kubernetes v1.34.4
	knative.dev/serving v0.48.1
	sigs.k8s.io/gateway-api v1.5.1
)
