{{/* Who may reach whom: pieces of network policies. */}}

{{/* Pods of our own parts. Arguments: root, parts (a list). */}}
{{- define "bindery.network.parts" -}}
- podSelector:
    matchLabels:
      app.kubernetes.io/name: {{ .root.Chart.Name }}
      app.kubernetes.io/instance: {{ .root.Release.Name }}
    matchExpressions:
      - {key: app.kubernetes.io/component, operator: In, values: {{ toJson .parts }}}
  namespaceSelector:
    matchLabels: {kubernetes.io/metadata.name: {{ .root.Release.Namespace }}}
{{- end -}}

{{/* What selects the pods of builds, or of servers, in their namespace: all, if nothing else runs there. Arguments:
     root, namespace, labels (what they have where other pods are). */}}
{{- define "bindery.network.guests" -}}
{{- $builds := include "bindery.builds.namespace" .root -}}
{{- $servers := include "bindery.servers.namespace" .root -}}
{{- if or (eq $builds $servers) (eq .namespace .root.Release.Namespace) -}}
{matchExpressions: {{ toJson .expressions }}}
{{- else -}}
{}
{{- end -}}
{{- end -}}

{{/* Egress to name servers, in the cluster and in private networks. */}}
{{- define "bindery.network.dns" -}}
- ports:
    {{- range .Values.networkPolicy.dnsPorts }}
    - {protocol: UDP, port: {{ . }}}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
  to:
    - namespaceSelector: {}
    {{- range .Values.networkPolicy.privateNetworks }}
    - ipBlock: {cidr: {{ . }}}
    {{- end }}
{{- end -}}

{{/* Ranges that are nobody's, or that an address of a cloud's own is in: they stay closed whatever the values say. */}}
{{- define "bindery.network.special" -}}
- 0.0.0.0/8
- 127.0.0.0/8
- 168.63.129.16/32  # Azure's own services
- 192.0.0.0/24
- 198.18.0.0/15
- 224.0.0.0/3
- "::1/128"
- 64:ff9b::/96  # IPv4 addresses behind NAT64
{{- end -}}

{{/* Egress to public addresses. */}}
{{- define "bindery.network.internet" -}}
- to:
    {{- $private := concat .Values.networkPolicy.privateNetworks .Values.networkPolicy.alsoPrivate (include "bindery.network.special" . | fromYamlArray) }}
    {{- range $all := list "0.0.0.0/0" "::/0" }}
    - ipBlock:
        cidr: {{ $all }}
        except:
          {{- range $private }}
          {{- if eq (contains ":" .) (contains ":" $all) }}
          - {{ . }}
          {{- end }}
          {{- end }}
    {{- end }}
{{- end -}}
