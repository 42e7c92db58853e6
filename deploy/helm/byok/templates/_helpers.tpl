{{- define "byok.name" -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "byok.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{/* Labels that select pods: fixed for the life of a Deployment. Takes a dict of root and part. */}}
{{- define "byok.selector" -}}
app.kubernetes.io/name: byok
app.kubernetes.io/instance: {{ include "byok.name" .root }}
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{- define "byok.labels" -}}
{{ include "byok.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{- define "byok.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "byok.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* Variables that name the files of secrets. Takes the list of variables' names. */}}
{{- define "byok.secretFiles" -}}
{{- range .names }}
- name: BYOK_{{ upper . }}_FILE
  value: /run/secrets/byok/{{ . }}
{{- end }}
{{- end }}

{{/* A volume of some of the Secret's keys, by file name. Takes root, volume, items (file: key) and optional. */}}
{{- define "byok.secretVolume" -}}
- name: {{ .volume }}
  projected:
    defaultMode: 0440
    sources:
      - secret:
          name: {{ .root.Values.secret.name }}
          items:
          {{- range $file, $key := .items }}
            - key: {{ $key }}
              path: {{ $file }}
          {{- end }}
{{- end }}

{{- define "byok.env" -}}
{{- range $name, $value := .root.Values.env }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- range $name, $value := .more }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}

{{/*
The pod of a role, with its exporter beside it. Takes root, part, role, queues, env, resources, and the
Secret's key of the database's address (database).
*/}}
{{- define "byok.pod" -}}
{{- /* A scheduler signs what it sends to workers with what it derives from the sealing keys, and opens nothing. */}}
{{- $held := list "broker_url" "redis_url" "database_url" "sealing_keys" -}}
{{- if eq .role "worker" }}{{ $held = concat $held (list "master_keys" "publishers") .root.Values.secret.platformKeys }}{{ end -}}
{{- $items := dict -}}
{{- range $held }}{{ $_ := set $items . . }}{{ end -}}
{{- $_ := set $items "database_url" .database -}}
metadata:
  labels:
    {{- include "byok.labels" . | nindent 4 }}
spec:
  serviceAccountName: {{ include "byok.name" .root }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .root.Values.terminationGracePeriodSeconds }}
  securityContext:
    {{- include "byok.podSecurity" . | nindent 4 }}
  {{- with .root.Values.image.pullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "byok.selector" . | nindent 10 }}
  {{- with .root.Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .root.Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .root.Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ .role }}
      image: {{ include "byok.image" .root }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      args: [{{ .role }}]
      env:
        {{- include "byok.secretFiles" (dict "names" $held) | nindent 8 }}
        - name: BYOK_STATE_DIR
          value: /run/byok
        # Two containers of one pod have one address.
        - name: BYOK_HEALTH_HOST
          value: "0.0.0.0"
        - name: BYOK_HEALTH_PORT
          value: "8080"
        {{- with .queues }}
        - name: BYOK_QUEUES
          value: {{ join "," . | quote }}
        {{- end }}
        {{- include "byok.env" (dict "root" .root "more" .env) | nindent 8 }}
      ports:
        - {name: health, containerPort: 8080}
      # An outage of broker or database makes it unready and leaves it alive: a restart mends neither.
      startupProbe:
        httpGet: {path: /livez, port: health}
        periodSeconds: 2
        failureThreshold: 60
      livenessProbe:
        httpGet: {path: /livez, port: health}
        periodSeconds: 15
        timeoutSeconds: 5
      readinessProbe:
        httpGet: {path: /readyz, port: health}
        periodSeconds: 10
        timeoutSeconds: 5
      resources:
        {{- toYaml .resources | nindent 8 }}
      securityContext:
        {{- include "byok.containerSecurity" . | nindent 8 }}
      volumeMounts:
        - {name: state, mountPath: /run/byok}
        - {name: tmp, mountPath: /tmp}
        - {name: secrets, mountPath: /run/secrets/byok, readOnly: true}
    - name: exporter
      image: {{ include "byok.image" .root }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      args: [exporter]
      env:
        {{- include "byok.secretFiles" (dict "names" (list "broker_url" "redis_url" "database_url")) | nindent 8 }}
        - name: BYOK_STATE_DIR
          value: /run/byok
        - name: BYOK_EXPORTER_HOST
          value: "0.0.0.0"
        - name: BYOK_EXPORTER_PORT
          value: {{ .root.Values.exporter.port | quote }}
        - name: BYOK_HEALTH_HOST
          value: "0.0.0.0"
        - name: BYOK_HEALTH_PORT
          value: "8081"
        {{- include "byok.env" (dict "root" .root) | nindent 8 }}
      ports:
        - {name: metrics, containerPort: {{ .root.Values.exporter.port }}}
        - {name: exporter-health, containerPort: 8081}
      startupProbe:
        httpGet: {path: /livez, port: exporter-health}
        periodSeconds: 2
        failureThreshold: 60
      livenessProbe:
        httpGet: {path: /livez, port: exporter-health}
        periodSeconds: 15
        timeoutSeconds: 5
      resources:
        {{- toYaml .root.Values.exporter.resources | nindent 8 }}
      securityContext:
        {{- include "byok.containerSecurity" . | nindent 8 }}
      volumeMounts:
        - {name: state, mountPath: /run/byok}
        - {name: tmp, mountPath: /tmp}
        # Neither master keys nor sealing keys: the exporter counts, and opens nothing.
        - {name: reader, mountPath: /run/secrets/byok, readOnly: true}
  volumes:
    - name: state
      emptyDir: {medium: Memory, sizeLimit: 64Mi}
    - name: tmp
      emptyDir: {medium: Memory, sizeLimit: 64Mi}
    {{- include "byok.secretVolume" (dict "root" .root "volume" "secrets" "items" $items) | nindent 4 }}
    {{- include "byok.secretVolume" (dict "root" .root "volume" "reader" "items" (dict "broker_url" "broker_url" "redis_url" "redis_url" "database_url" "reader_database_url")) | nindent 4 }}
{{- end }}

{{/* NetworkPolicy: to some peers on some ports. */}}
{{- define "byok.egress" }}
- to:
    {{- toYaml .peers | nindent 4 }}
  ports:
  {{- range .ports }}
    - {port: {{ . }}, protocol: TCP}
  {{- end }}
{{- end }}

{{/* NetworkPolicy: to the name servers. */}}
{{- define "byok.dns" }}
- to:
    {{- toYaml . | nindent 4 }}
  ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
{{- end }}

{{/* What the schema of values cannot say. */}}
{{- define "byok.check" -}}
{{- if and (eq .Values.image.tag "latest") (not .Values.image.digest) -}}
{{- fail "image.tag: \"latest\" names no version: give a version, or a digest." -}}
{{- end -}}
{{- $taken := list -}}
{{- range $name, $worker := .Values.workers -}}
{{- $taken = concat $taken $worker.queues -}}
{{- if dig "keda" "enabled" false $worker -}}
{{- if gt (int $worker.keda.minReplicas) (int $worker.keda.maxReplicas) -}}
{{- fail (printf "workers.%s.keda: minReplicas (%v) is more than maxReplicas (%v)." $name $worker.keda.minReplicas $worker.keda.maxReplicas) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range list "events" "validations" "analyses" "usage" -}}
{{- if not (has . $taken) -}}
{{- fail (printf "Nobody takes from %q: name it in the queues of one of the workers." .) -}}
{{- end -}}
{{- end -}}
{{- end }}
