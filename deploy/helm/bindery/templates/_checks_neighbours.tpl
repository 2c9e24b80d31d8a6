{{/* What of its node another installation has taken: two registries at one port would not work. */}}
{{- define "bindery.checks.cluster.nodes" -}}
{{- $problems := list -}}
{{- if .Values.registry.bundled -}}
{{- range (lookup "apps/v1" "StatefulSet" "" "").items -}}
{{- if include "bindery.isAnothers" (dict "root" $ "object" . "part" "registry") -}}
{{- $port := get (first (first .spec.template.spec.containers).ports) "hostPort" | int -}}
{{- if eq $port (int $.Values.registry.hostPort) -}}
{{- $problems = append $problems (printf "the registry of another Bindery, %s in the namespace %s, has the port %d of its node: set registry.hostPort to another" .metadata.name .metadata.namespace $port) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $problems | toYaml -}}
{{- end -}}

{{/* Whether an object is a part of a Bindery that is not this release. Arguments: root, object, part. */}}
{{- define "bindery.isAnothers" -}}
{{- $labels := .object.metadata.labels | default dict -}}
{{- $isPart := and (eq .root.Chart.Name (get $labels "app.kubernetes.io/name")) (eq .part (get $labels "app.kubernetes.io/component")) -}}
{{- if and $isPart (not (include "bindery.isOurs" .)) -}}yes{{- end -}}
{{- end -}}

{{/* APIs that others bring to the cluster, and the class of the ingress controller. */}}
{{- define "bindery.checks.cluster.apis" -}}
{{- $problems := list -}}
{{- $wanted := list
  (list (eq .Values.worker.autoscaling.by "keda") "worker.autoscaling.by is keda" "keda.sh/v1alpha1/ScaledObject" "install KEDA")
  (list .Values.httpRoute.enabled "httpRoute.enabled is true" "gateway.networking.k8s.io/v1/HTTPRoute" "install the Gateway API and a controller for it")
  (list .Values.monitoring.podMonitor.enabled "monitoring.podMonitor.enabled is true" "monitoring.coreos.com/v1/PodMonitor" "install the Prometheus operator")
-}}
{{- range $wanted -}}
{{- if and (index . 0) (not ($.Capabilities.APIVersions.Has (index . 2))) -}}
{{- $problems = append $problems (printf "%s, but the cluster does not know %s: %s, or leave it out" (index . 1) (index . 2) (index . 3)) -}}
{{- end -}}
{{- end -}}
{{- if .Values.ingress.enabled -}}
{{- with .Values.ingress.className -}}
{{- if not (lookup "networking.k8s.io/v1" "IngressClass" "" .) -}}
{{- $classes := list -}}
{{- range (lookup "networking.k8s.io/v1" "IngressClass" "" "").items }}{{ $classes = append $classes .metadata.name }}{{ end -}}
{{- $problems = append $problems (printf "there is no ingress class %s, which ingress.className names (there are: %s): install its controller, or name another" . (join ", " $classes | default "none")) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $problems | toYaml -}}
{{- end -}}
