{{/* What pods of all parts have in common. */}}

{{/* Fields of a pod's spec from the part's values. Arguments: root, part (its name), values. */}}
{{- define "bindery.pod.spec" -}}
{{- $pull := include "bindery.ownImages.pullSecrets" (dict "root" .root "own" .values.imagePullSecrets) | fromJsonArray }}
{{- with $pull }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .values.priorityClassName | default (include "bindery.priorityClass" (dict "root" .root "of" "services")) }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* How replicas of a part are spread, unless its values say it. Arguments: root, part, values. */}}
{{- define "bindery.pod.spread" -}}
{{- with .values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
{{- if .values.topologySpreadConstraints }}
{{- toYaml .values.topologySpreadConstraints | nindent 2 }}
{{- else }}
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "bindery.selector" $ | nindent 8 }}
    matchLabelKeys: [pod-template-hash]
  {{- end }}
{{- end }}
{{- end -}}

{{- define "bindery.container.security" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{/* Requests and limits; nothing without them. Arguments: values. */}}
{{- define "bindery.container.resources" -}}
{{- with .values.resources }}
resources: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Labels and annotations of a part's pods, none of which changes with each version of the chart. Arguments: root, part, values, checksums (a map). */}}
{{- define "bindery.pod.metadata" -}}
labels:
  {{- include "bindery.selector" . | nindent 2 }}
  app.kubernetes.io/part-of: bindery
  {{- with .values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- $annotations := merge dict (.checksums | default dict) (.values.podAnnotations | default dict) }}
{{- with $annotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The Deployment of one of our services. Arguments: root, part (its name), key (its key in values.yaml), from (whose
     settings, the key if absent), image, command, env (YAML), secrets (the keys that it gets), volumes and mounts
     (lists), account (whether it has a service account with rights), stopSeconds, autoscaled (whether others set the
     number of replicas). */}}
{{- define "bindery.service.deployment" -}}
{{- $root := .root }}
{{- $values := include "bindery.values" (dict "root" .root "part" .key) | fromYaml }}
{{- $pod := merge (dict "values" $values) . }}
{{- $settings := include "bindery.settings" (dict "root" .root "part" .key "from" (.from | default .key)) }}
{{- $volumes := concat (.volumes | default list) ($values.extraVolumes | default list) }}
{{- $mounts := concat (.mounts | default list) ($values.extraVolumeMounts | default list) }}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "bindery.name" . }}
  labels: {{- include "bindery.labels" . | nindent 4 }}
spec:
  {{- if not .autoscaled }}
  replicas: {{ $values.replicas }}
  {{- end }}
  strategy:
    type: RollingUpdate
    rollingUpdate: {maxUnavailable: 0, maxSurge: {{ $values.maxSurge }}}
  selector:
    matchLabels: {{- include "bindery.selector" . | nindent 6 }}
  template:
    metadata:
      {{- $checksums := dict "checksum/settings" (sha256sum $settings) "checksum/secrets" (include "bindery.secret.checksum" (dict "root" .root "keys" .secrets)) }}
      {{- include "bindery.pod.metadata" (merge (dict "checksums" $checksums) $pod) | nindent 6 }}
    spec:
      {{- include "bindery.pod.spec" $pod | nindent 6 }}
      {{- include "bindery.pod.spread" $pod | nindent 6 }}
      serviceAccountName: {{ include "bindery.name" . }}
      automountServiceAccountToken: {{ .account | default false }}
      terminationGracePeriodSeconds: {{ add ($values.preStopSeconds | int) (.stopSeconds | int) 30 }}
      {{- with $values.initContainers }}
      initContainers: {{- toYaml . | nindent 8 }}
      {{- end }}
      containers:
        - name: {{ .part }}
          image: {{ $values.image | default (include "bindery.image" (dict "root" .root "name" .image)) }}
          imagePullPolicy: {{ .root.Values.images.pullPolicy }}
          terminationMessagePolicy: FallbackToLogsOnError
          {{- with .command }}
          command: {{ toJson . }}
          {{- end }}
          {{- include "bindery.container.security" . | nindent 10 }}
          env:
            - {name: BINDERY_CONFIG_FILE, value: /etc/bindery/settings.yaml}
            {{- .env | nindent 12 }}
            {{- with $values.extraEnv }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          ports:
            - {name: http, containerPort: 8080}
          startupProbe:
            httpGet: {path: /livez, port: http}
            initialDelaySeconds: 2
            periodSeconds: 1
            timeoutSeconds: 5
            failureThreshold: 60
          livenessProbe:
            httpGet: {path: /livez, port: http}
            periodSeconds: 10
            timeoutSeconds: 10
            failureThreshold: 6
          readinessProbe:
            httpGet: {path: /readyz, port: http}
            periodSeconds: 2
            timeoutSeconds: 5
            failureThreshold: 3
          {{- if $values.preStopSeconds }}
          lifecycle:
            preStop:
              sleep: {seconds: {{ $values.preStopSeconds }}}
          {{- end }}
          {{- include "bindery.container.resources" $pod | nindent 10 }}
          volumeMounts:
            - {name: settings, mountPath: /etc/bindery/settings.yaml, subPath: {{ .part }}.yaml, readOnly: true}
            - {name: tmp, mountPath: /tmp}
            {{- with $mounts }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
        {{- with $values.extraContainers }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      volumes:
        - name: settings
          configMap: {name: {{ include "bindery.fullname" $root }}-settings}
        - name: tmp
          emptyDir: {sizeLimit: 64Mi}
        {{- with $volumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
{{- end -}}

{{/* The Service before a part's pods. Arguments: root, part, port, targetPort, values. */}}
{{- define "bindery.service" -}}
{{- $service := .values.service | default dict }}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "bindery.name" . }}
  labels: {{- include "bindery.labels" . | nindent 4 }}
  {{- with $service.annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  type: {{ $service.type | default "ClusterIP" }}
  {{- range $key := list "loadBalancerIP" "externalTrafficPolicy" "loadBalancerSourceRanges" }}
  {{- with get $service $key }}
  {{ $key }}: {{ toJson . }}
  {{- end }}
  {{- end }}
  selector: {{- include "bindery.selector" . | nindent 4 }}
  ports:
    - name: http
      port: {{ .port }}
      targetPort: {{ .targetPort | default "http" }}
      {{- if $service.nodePort }}
      nodePort: {{ $service.nodePort }}
      {{- end }}
{{- end -}}

{{/* A part's account, budget for disruptions and scaling by CPU. Arguments: root, part, values. */}}
{{- define "bindery.service.account" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "bindery.name" . }}
  labels: {{- include "bindery.labels" . | nindent 4 }}
  {{- with .values.serviceAccountAnnotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
{{- end -}}

{{- define "bindery.service.disruptions" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "bindery.name" . }}
  labels: {{- include "bindery.labels" . | nindent 4 }}
spec:
  maxUnavailable: {{ .values.maxUnavailable }}
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels: {{- include "bindery.selector" . | nindent 6 }}
{{- end -}}

{{- define "bindery.service.autoscaling" -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ include "bindery.name" . }}
  labels: {{- include "bindery.labels" . | nindent 4 }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: {{ include "bindery.name" . }}}
  minReplicas: {{ .values.autoscaling.minReplicas }}
  maxReplicas: {{ .values.autoscaling.maxReplicas }}
  metrics:
    - type: ContainerResource  # others in the pod need not say what they request
      containerResource:
        name: cpu
        container: {{ .part }}
        target: {type: Utilization, averageUtilization: {{ .values.autoscaling.cpuPercent }}}
{{- end -}}

{{/* All objects of a stateless service but its Deployment. Arguments: root, part, key, port (of its Service; none
     without). */}}
{{- define "bindery.service.objects" -}}
{{- $values := include "bindery.values" (dict "root" .root "part" .key) | fromYaml }}
{{- $all := merge (dict "values" $values) . }}
{{ include "bindery.service.account" $all }}
---
{{ include "bindery.service.disruptions" $all }}
{{- if .port }}
---
{{ include "bindery.service" $all }}
{{- end }}
{{- if and $values.autoscaling $values.autoscaling.enabled }}
---
{{ include "bindery.service.autoscaling" $all }}
{{- end }}
{{- end -}}
