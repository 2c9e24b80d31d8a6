{{/* What a first installation needs of the namespace's quotas and does not get: a list of sentences in YAML. Quotas for
     some pods alone (scopes) are left out. */}}
{{- define "bindery.checks.quotas" -}}
{{- $problems := list -}}
{{- if .Release.IsInstall -}}
{{- $needs := include "bindery.needs" . | fromYaml -}}
{{- range $quota := (lookup "v1" "ResourceQuota" .Release.Namespace "").items | default list -}}
{{- if not (or $quota.spec.scopes $quota.spec.scopeSelector) -}}
{{- range $resource, $hard := ($quota.status | default dict).hard | default dict -}}
{{- $need := get $needs $resource | default dict -}}
{{- if $need.without -}}
{{- $problems = append $problems (printf "the quota %s of the namespace %s counts %s, and refuses pods that don't say it, as those of %s: set it in their resources, or give the namespace a LimitRange with a default" $quota.metadata.name $.Release.Namespace $resource (join ", " $need.without)) -}}
{{- else if $need -}}
{{- $free := subf (include "bindery.quantity" $hard | float64) (include "bindery.quantity" (get $quota.status.used $resource | default "0") | float64) -}}
{{- if lt $free (float64 $need.amount) -}}
{{- $problems = append $problems (printf "the quota %s of the namespace %s leaves %s of %s, and this release needs %s: raise it, or lower %s" $quota.metadata.name $.Release.Namespace (include "bindery.amount" (list $resource $free)) $resource (include "bindery.amount" (list $resource $need.amount)) $need.by) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $problems | toYaml -}}
{{- end -}}

{{/* What the release needs at first, as YAML, by the names that quotas have for it: the amount, by which values it gets
     less, and which parts don't say how much of it they need. */}}
{{- define "bindery.needs" -}}
{{- $needs := dict -}}
{{- $pods := 0 -}}
{{- range $part, $count := include "bindery.podCounts" . | fromYaml -}}
{{- $pods = add $pods $count -}}
{{- range $kind, $resources := include "bindery.requestsAndLimits" ((index $.Values $part).resources | default dict) | fromYaml -}}
{{- range $what := list "cpu" "memory" -}}
{{- $name := printf "%s.%s" $kind $what -}}
{{- $need := get $needs $name | default (dict "amount" 0 "without" list "by" "the parts' replicas and resources") -}}
{{- if hasKey $resources $what -}}
{{- $_ := set $need "amount" (addf $need.amount (mulf $count (include "bindery.quantity" (get $resources $what) | float64))) -}}
{{- else if and $count (not (include "bindery.hasDefault" (dict "root" $ "kind" $kind "what" $what))) -}}
{{- $_ := set $need "without" (append $need.without $part) -}}
{{- end -}}
{{- $_ := set $needs $name $need -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $_ := set $needs "cpu" (get $needs "requests.cpu") -}}
{{- $_ := set $needs "memory" (get $needs "requests.memory") -}}
{{- range list "pods" "count/pods" }}{{ $_ := set $needs . (dict "amount" $pods "by" "the parts' replicas") }}{{ end -}}
{{- $claims := include "bindery.missingClaims" . | fromYamlArray -}}
{{- $storage := 0 -}}
{{- range $claims }}{{ $storage = addf $storage (include "bindery.quantity" (index $.Values .).persistence.size | float64) }}{{ end -}}
{{- $_ := set $needs "requests.storage" (dict "amount" $storage "by" "the sizes in redis, hub and registry.persistence") -}}
{{- $_ := set $needs "persistentvolumeclaims" (dict "amount" (len $claims) "by" "the number of bundled parts") -}}
{{- $needs | toYaml -}}
{{- end -}}

{{/* How many pods each part has at first, as YAML. */}}
{{- define "bindery.podCounts" -}}
{{- range $part := list "gateway" "resolver" "builder" "launcher" }}
{{- $values := index $.Values $part }}
{{ $part }}: {{ ternary $values.autoscaling.minReplicas $values.replicas $values.autoscaling.enabled }}
{{- end }}
worker: {{ ternary .Values.worker.replicas .Values.worker.autoscaling.minReplicas (eq .Values.worker.autoscaling.by "none") }}
{{- if .Values.hub.bundled }}
hub: 1
proxy: {{ .Values.proxy.replicas }}
{{- end }}
{{- if .Values.redis.bundled }}
redis: 1
{{- end }}
{{- if .Values.registry.bundled }}
registry: 1
{{- end }}
{{- end -}}

{{/* A container's resources as they count, as YAML: a limit is a request, too, where there is no other. */}}
{{- define "bindery.requestsAndLimits" -}}
{{- $limits := .limits | default dict -}}
{{- dict "limits" $limits "requests" (merge dict (.requests | default dict) $limits) | toYaml -}}
{{- end -}}

{{/* Whether a LimitRange of the namespace fills in what a container does not say. Arguments: root, kind (requests or
     limits), what (cpu or memory). */}}
{{- define "bindery.hasDefault" -}}
{{- $key := ternary "defaultRequest" "default" (eq .kind "requests") -}}
{{- $what := .what -}}
{{- range (lookup "v1" "LimitRange" .root.Release.Namespace "").items -}}
{{- range .spec.limits -}}
{{- if and (eq .type "Container") (hasKey (get . $key | default dict) $what) -}}yes{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A quantity of Kubernetes as a number: 0.1 of 100m, 1073741824 of 1Gi. */}}
{{- define "bindery.quantity" -}}
{{- $factors := dict "m" 1e-3 "" 1.0 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 "Pi" 1125899906842624.0 -}}
{{- $text := toString . -}}
{{- $unit := regexFind "[A-Za-z]*$" $text -}}
{{- mulf (trimSuffix $unit $text | float64) (get $factors $unit | default 1.0) -}}
{{- end -}}

{{/* A number as people read it. Arguments: what it counts, the number. */}}
{{- define "bindery.amount" -}}
{{- $isBytes := or (hasSuffix "memory" (index . 0)) (hasSuffix "storage" (index . 0)) -}}
{{- if $isBytes }}{{ printf "%.0fMi" (divf (index . 1) 1048576.0) }}{{ else }}{{ printf "%g" (index . 1 | float64) }}{{ end -}}
{{- end -}}
