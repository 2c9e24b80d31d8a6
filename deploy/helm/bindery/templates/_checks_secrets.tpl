{{/* Which Secrets that the values name are missing or lack keys: a list of sentences in YAML. */}}
{{- define "bindery.checks.secrets" -}}
{{- $problems := list -}}
{{- with .Values.secrets.existing -}}
{{- $advice := "installation-id as `openssl rand -hex 6` prints it, each of the others as `openssl rand -hex 32` does" -}}
{{- $wanted := dict "root" $ "value" "secrets.existing" "name" . "keys" (include "bindery.secret.keys" $ | splitList " ") "advice" $advice -}}
{{- $problems = append $problems (include "bindery.checks.secret" $wanted) -}}
{{- $cryptKey := get ((lookup "v1" "Secret" $.Release.Namespace .).data | default dict) "hub-crypt-key" | b64dec -}}
{{- if not (regexMatch "^([0-9A-Fa-f]{64}|.{44}|.{32}|)$" $cryptKey) -}}
{{- $problems = append $problems (printf "hub-crypt-key in the Secret %s is not 32 bytes in hexadecimal or base64, as JupyterHub needs it: make it with `openssl rand -hex 32`" .) -}}
{{- end -}}
{{- end -}}
{{- with .Values.registry.existingSecret -}}
{{- $wanted := dict "value" "registry.existingSecret" "name" . "keys" (list ".dockerconfigjson") "advice" "`kubectl create secret docker-registry` makes one of the right type" -}}
{{- range include "bindery.registry.namespaces" $ | fromYamlArray -}}
{{- $problems = append $problems (include "bindery.checks.secret" (merge (dict "root" $ "namespace" .) $wanted)) -}}
{{- end -}}
{{- end -}}
{{- if not .Values.hub.bundled -}}
{{- with .Values.hub.tokenSecret -}}
{{- $advice := "hub.tokenSecret.key says which key has the launcher's token" -}}
{{- $problems = append $problems (include "bindery.checks.secret" (dict "root" $ "value" "hub.tokenSecret.name" "name" .name "keys" (list .key) "advice" $advice)) -}}
{{- end -}}
{{- end -}}
{{- if eq .Values.engine.kind "address" -}}
{{- $wanted := dict "root" . "value" "engine.tlsSecret" "name" .Values.engine.tlsSecret "namespace" (include "bindery.builds.namespace" .) "keys" (list "ca.pem" "cert.pem" "key.pem") "advice" "they are the client's certificate for the engine" -}}
{{- $problems = append $problems (include "bindery.checks.secret" $wanted) -}}
{{- end -}}
{{- compact $problems | toYaml -}}
{{- end -}}

{{/* What a Secret lacks, in a sentence; nothing if it is as it should be, or can't be there yet, as its namespace is made
     with the release. Arguments: root, value (which names it), name, namespace (the release's if absent), keys, advice. */}}
{{- define "bindery.checks.secret" -}}
{{- $namespace := .namespace | default .root.Release.Namespace -}}
{{- if and .name (or (eq $namespace .root.Release.Namespace) (not (include "bindery.makesNamespace" (dict "root" .root "name" $namespace)))) -}}
{{- $secret := lookup "v1" "Secret" $namespace .name -}}
{{- $missing := list -}}
{{- range $key := .keys }}{{ if not (get ($secret.data | default dict) $key) }}{{ $missing = append $missing $key }}{{ end }}{{ end -}}
{{- if not $secret -}}
there is no Secret {{ .name }} in the namespace {{ $namespace }}, which {{ .value }} names: make it with the {{ ternary "key" "keys" (len .keys | eq 1) }} {{ join ", " .keys }} ({{ .advice }})
{{- else if $missing -}}
the Secret {{ .name }} in the namespace {{ $namespace }}, which {{ .value }} names, has nothing at {{ join ", " $missing }}: add {{ ternary "it" "them" (len $missing | eq 1) }} ({{ .advice }})
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Whether the chart makes a namespace, for builds or for servers. Arguments: root, name. */}}
{{- define "bindery.makesNamespace" -}}
{{- $values := .root.Values -}}
{{- if eq .name .root.Release.Namespace -}}
{{- else if eq .name (include "bindery.builds.namespace" .root) -}}{{- if $values.builds.namespace.create -}}yes{{- end -}}
{{- else if and $values.hub.bundled $values.servers.namespace.create -}}yes
{{- end -}}
{{- end -}}

{{/* Secrets of the operator's that belong into namespaces which the chart makes, and are not there yet, as YAML. */}}
{{- define "bindery.secretsToMake" -}}
{{- $missing := list -}}
{{- $values := .Values -}}
{{- $ofEngine := ternary (list $values.engine.tlsSecret) $values.engine.imagePullSecrets (eq $values.engine.kind "address") -}}
{{- $ofBuilds := concat ($ofEngine | default list) $values.imagePullSecrets $values.builds.imagePullSecrets -}}
{{- $ofServers := concat (list (ternary $values.registry.existingSecret "" $values.servers.registryLogin)) $values.imagePullSecrets $values.servers.imagePullSecrets -}}
{{- range $of, $names := dict "builds" $ofBuilds "servers" (ternary $ofServers list $values.hub.bundled) -}}
{{- $namespace := include (printf "bindery.%s.namespace" $of) $ -}}
{{- if include "bindery.makesNamespace" (dict "root" $ "name" $namespace) -}}
{{- range compact $names | uniq -}}
{{- if not (lookup "v1" "Secret" $namespace .) -}}{{- $missing = append $missing (printf "%s in %s" . $namespace) -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $missing | toYaml -}}
{{- end -}}
