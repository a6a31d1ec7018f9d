{{/* Labels of every object. */}}
{{- define "datastore-csi.labels" -}}
app.kubernetes.io/name: datastore-csi
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | quote }}
{{- end }}

{{/* Labels that select the pods of a component. A selector can never be changed: neither can these. (dict "component" ...) */}}
{{- define "datastore-csi.selector" -}}
app.kubernetes.io/name: datastore-csi
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* The name of an image. (list . "node") */}}
{{- define "datastore-csi.image" -}}
{{- $root := index . 0 }}
{{- $image := index $root.Values.images (index . 1) }}
{{- $name := $image.repository }}
{{- with $root.Values.imageRegistry }}
{{- $name = printf "%s/%s" (trimSuffix "/" .) (regexReplaceAll "^[^/]+/" $name "") }}
{{- end }}
{{- $name }}:{{ $image.tag | default $root.Chart.AppVersion }}
{{- with $image.digest }}@{{ . }}{{ end }}
{{- end }}

{{/* "true" where the snapshotter runs. */}}
{{- define "datastore-csi.snapshots" -}}
{{- if eq (toString .Values.snapshots.enabled) "auto" }}
{{- if .Capabilities.APIVersions.Has "snapshot.storage.k8s.io/v1/VolumeSnapshotClass" }}true{{ end }}
{{- else if .Values.snapshots.enabled }}true
{{- end }}
{{- end }}

{{/* "true" where metrics are served. */}}
{{- define "datastore-csi.metrics" -}}
{{- if or .Values.metrics.enabled .Values.metrics.serviceMonitor.enabled }}true{{ end }}
{{- end }}

{{/* What no container of the controller may do: everything. */}}
{{- define "datastore-csi.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* A sidecar of the controller. (dict "root" . "name" "attacher" "port" 8082 "args" (list ...) "env" (list ...)) */}}
{{- define "datastore-csi.sidecar" -}}
- name: csi-{{ .name }}
  image: {{ include "datastore-csi.image" (list .root .name) }}
  imagePullPolicy: {{ .root.Values.imagePullPolicy }}
  args:
    - --csi-address=/csi/csi.sock
    - --leader-election=true
    - --leader-election-namespace=$(NAMESPACE)
    - --http-endpoint=:{{ .port }}
    - --kube-api-qps={{ .root.Values.controller.kubeAPI.qps }}
    - --kube-api-burst={{ .root.Values.controller.kubeAPI.burst }}
    - --retry-interval-start=1s
    - --retry-interval-max=1m
    - --timeout={{ .root.Values.controller.timeout }}
    - --v={{ .root.Values.verbosity }}
    {{- range .args }}
    - {{ . }}
    {{- end }}
  env:
    - {name: NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
    - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
  ports:
    - {name: {{ .name }}, containerPort: {{ .port }}}
  livenessProbe: # fails where it holds the lease and can't renew it
    httpGet: {path: /healthz/leader-election, port: {{ .name }}}
    initialDelaySeconds: 20
    periodSeconds: 20
    timeoutSeconds: 10
    failureThreshold: 3
  resources: {{- toYaml .root.Values.controller.sidecarResources | nindent 4 }}
  securityContext: {{- include "datastore-csi.restricted" . | nindent 4 }}
  terminationMessagePolicy: FallbackToLogsOnError
  volumeMounts:
    - {name: csi, mountPath: /csi}
{{- end }}

{{/* Annotations of what exists during an upgrade only. "-10" */}}
{{- define "datastore-csi.upgradeHook" -}}
helm.sh/hook: pre-upgrade
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}
