{{- define "snapshotd.name" -}}
{{- if contains "snapshotd" .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-snapshotd" .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "snapshotd.selector" -}}
app.kubernetes.io/name: snapshotd
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "snapshotd.labels" -}}
{{ include "snapshotd.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "snapshotd.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "snapshotd.name" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- define "snapshotd.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- /* The port of an address in the configuration. */ -}}
{{- define "snapshotd.port" -}}
{{- $port := splitList ":" . | last -}}
{{- if not (regexMatch "^[1-9][0-9]*$" $port) -}}
{{- fail (printf "the address %q in config has no port that a probe or a client could know" .) -}}
{{- end -}}
{{- $port -}}
{{- end -}}

{{- define "snapshotd.tls" -}}
{{- if (.Values.config.tls | default dict).cert -}}true{{- end -}}
{{- end -}}

{{- /* Settings that do not go together. */ -}}
{{- define "snapshotd.check" -}}
{{- if regexMatch "^(127\\.|localhost:|\\[::1\\])" .Values.config.listen_http -}}
{{- fail "config.listen_http is on loopback, where the kubelet reaches no probe: set it to 0.0.0.0:7380" -}}
{{- end -}}
{{- if .Values.grpc.enabled -}}
{{- if not (include "snapshotd.tls" .) -}}
{{- fail "grpc.enabled opens the API to other pods: set config.tls, with a client_ca or config.access" -}}
{{- end -}}
{{- if regexMatch "^(127\\.|localhost:|\\[::1\\]|unix:)" .Values.config.listen_grpc -}}
{{- fail "grpc.enabled needs an address that other pods reach: set config.listen_grpc to 0.0.0.0:7379" -}}
{{- end -}}
{{- end -}}
{{- end -}}
