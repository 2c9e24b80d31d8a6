{{/* What of the cluster is missing, or in use by somebody else: a list of sentences in YAML. Helm names this template
     where a lookup is forbidden. */}}
{{- define "bindery.checks.cluster: without the right to read it, set checks.enabled to false" -}}
{{- $problems := list -}}
{{- range list "storage" "namespaces" "owners" "nodes" "apis" -}}
{{- $problems = concat $problems (include (printf "bindery.checks.cluster.%s" .) $ | fromYamlArray) -}}
{{- end -}}
{{- $problems | toYaml -}}
{{- end -}}

{{/* Storage classes of the claims that are not there yet. */}}
{{- define "bindery.checks.cluster.storage" -}}
{{- $problems := list -}}
{{- $hasDefault := false -}}
{{- $classes := list -}}
{{- range (lookup "storage.k8s.io/v1" "StorageClass" "" "").items -}}
{{- $classes = append $classes .metadata.name -}}
{{- if eq "true" (get (.metadata.annotations | default dict) "storageclass.kubernetes.io/is-default-class") -}}{{- $hasDefault = true -}}{{- end -}}
{{- end -}}
{{- $found := join ", " $classes | default "none" -}}
{{- range $part := include "bindery.missingClaims" . | fromYamlArray -}}
{{- $persistence := (index $.Values $part).persistence -}}
{{- $class := $persistence.storageClass -}}
{{- if not (or $class $hasDefault $persistence.volumeName) -}}
{{- $problems = append $problems (printf "the cluster has no default storage class, and %s.persistence.storageClass names none (there are: %s). Name one, or set it to \"-\" for a volume that you have made" $part $found) -}}
{{- else if and $class (ne $class "-") (not (has $class $classes)) -}}
{{- $problems = append $problems (printf "there is no storage class %s, which %s.persistence.storageClass names (there are: %s)" $class $part $found) -}}
{{- end -}}
{{- end -}}
{{- range $part := list "redis" "hub" "registry" -}}
{{- $set := lookup "apps/v1" "StatefulSet" $.Release.Namespace (include "bindery.name" (dict "root" $ "part" $part)) -}}
{{- if and $set (index $.Values $part).bundled -}}
{{- $there := (first $set.spec.volumeClaimTemplates).spec -}}
{{- $wanted := (include "bindery.claim" (dict "name" "data" "persistence" (index $.Values $part).persistence) | fromYamlArray | first).spec -}}
{{- range list (list "size" $there.resources.requests.storage $wanted.resources.requests.storage) (list "storageClass" (get $there "storageClassName") (get $wanted "storageClassName")) -}}
{{- if ne (index . 1 | default "" | toString) (index . 2 | default "" | toString) -}}
{{- $problems = append $problems (printf "%s.persistence.%s was %q and is %q now, which Kubernetes does not let a release change: docs/helm.md says how a volume grows" $part (index . 0) (index . 1 | default "" | toString) (index . 2 | default "" | toString)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $problems | toYaml -}}
{{- end -}}

{{/* The parts whose claim of a volume is to be made, as a YAML list. */}}
{{- define "bindery.missingClaims" -}}
{{- $parts := list -}}
{{- range $part := list "redis" "hub" "registry" -}}
{{- if (index $.Values $part).bundled -}}
{{- if not (lookup "v1" "PersistentVolumeClaim" $.Release.Namespace (printf "data-%s-0" (include "bindery.name" (dict "root" $ "part" $part)))) -}}
{{- $parts = append $parts $part -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $parts | toYaml -}}
{{- end -}}

{{/* The namespaces of builds and servers, and which pods all three let in. */}}
{{- define "bindery.checks.cluster.namespaces" -}}
{{- $problems := list -}}
{{- $builds := include "bindery.builds.namespace" . -}}
{{- range $name := include "bindery.namespaces" . | splitList " " -}}
{{- $of := ternary "builds" "servers" (eq $name $builds) -}}
{{- $namespace := lookup "v1" "Namespace" "" $name -}}
{{- if include "bindery.makesNamespace" (dict "root" $ "name" $name) -}}
{{- if and $namespace $namespace.metadata.deletionTimestamp -}}
{{- $problems = append $problems (printf "the namespace %s is being deleted: wait until `kubectl get namespace %s` finds it no more" $name $name) -}}
{{- else if and $namespace (not (include "bindery.isOurs" (dict "root" $ "object" $namespace))) -}}
{{- $problems = append $problems (printf "the namespace %s exists, and this release has not made it: set %s.namespace.create to false to use it as it is, or %s.namespace.name to another" $name $of $of) -}}
{{- end -}}
{{- else if $namespace -}}
{{- $level := get ($namespace.metadata.labels | default dict) "pod-security.kubernetes.io/enforce" -}}
{{- $needed := include "bindery.neededLevel" (dict "root" $ "namespace" $name) | fromYaml -}}
{{- if and $level (not (has $level $needed.levels)) -}}
{{- $problems = append $problems (printf "the namespace %s has the label pod-security.kubernetes.io/enforce=%s, which refuses %s: set it to %s, or %s" $name $level $needed.what (first $needed.levels) $needed.otherwise) -}}
{{- end -}}
{{- else if ne $name $.Release.Namespace -}}
{{- $problems = append $problems (printf "there is no namespace %s for %s: make it, or set %s.namespace.create to true" $name $of $of) -}}
{{- end -}}
{{- end -}}
{{- $problems | toYaml -}}
{{- end -}}

{{/* The levels of Pod Security with which a namespace lets in what the release runs there, as YAML. Arguments: root,
     namespace. */}}
{{- define "bindery.neededLevel" -}}
{{- $root := .root -}}
{{- $isBuilds := eq .namespace (include "bindery.builds.namespace" $root) -}}
{{- $isServers := eq .namespace (include "bindery.servers.namespace" $root) -}}
{{- if and $isBuilds (hasPrefix "unix:" (include "bindery.engine.address" $root)) }}
levels: [privileged]
what: the pods of builds, which have the engine's socket
otherwise: let builds reach an engine elsewhere (engine.kind address)
{{- else if and (eq .namespace $root.Release.Namespace) $root.Values.registry.bundled }}
levels: [privileged]
what: the bundled registry, which has a port of its node
otherwise: set registry.imagePrefix to a registry elsewhere
{{- else if or $isBuilds $isServers }}
levels: [baseline, privileged]
what: the pods of builds and servers, which don't say that they run as no root
otherwise: name another namespace (builds.namespace.name, servers.namespace.name)
{{- else }}
levels: [restricted, baseline, privileged]
{{- end }}
{{- end -}}

{{/* Names in the cluster and in the namespace that another release has taken. */}}
{{- define "bindery.checks.cluster.owners" -}}
{{- $problems := list -}}
{{- $advice := "set fullnameOverride to a name of its own" -}}
{{- if .Values.priorityClasses.create -}}
{{- $name := printf "%s-services" (include "bindery.clusterName" .) -}}
{{- with lookup "scheduling.k8s.io/v1" "PriorityClass" "" $name -}}
{{- if not (include "bindery.isOurs" (dict "root" $ "object" .)) -}}
{{- $problems = append $problems (printf "the PriorityClass %s exists, and this release has not made it: %s" $name $advice) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $name := printf "%s-settings" (include "bindery.fullname" .) -}}
{{- with lookup "v1" "ConfigMap" .Release.Namespace $name -}}
{{- if not (include "bindery.isOurs" (dict "root" $ "object" .)) -}}
{{- $problems = append $problems (printf "the ConfigMap %s in the namespace %s exists, and this release has not made it, so another has the same names: %s" $name $.Release.Namespace $advice) -}}
{{- end -}}
{{- end -}}
{{- $problems | toYaml -}}
{{- end -}}

{{/* Whether an object of the cluster belongs to this release. Arguments: root, object. */}}
{{- define "bindery.isOurs" -}}
{{- $annotations := .object.metadata.annotations | default dict -}}
{{- if and (eq .root.Release.Name (get $annotations "meta.helm.sh/release-name")) (eq .root.Release.Namespace (get $annotations "meta.helm.sh/release-namespace")) -}}yes{{- end -}}
{{- end -}}
