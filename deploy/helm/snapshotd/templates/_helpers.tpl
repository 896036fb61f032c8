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

{{- /* The label job of all series. The rules combine those of one job, so each service needs its own. */ -}}
{{- define "snapshotd.job" -}}
{{- .Values.podMonitor.job | default (ternary (printf "%s/%s" .Release.Namespace (include "snapshotd.name" .)) "snapshotd" .Values.podMonitor.enabled) -}}
{{- end -}}

{{- /* Seconds until a pod that is told to stop is killed. */ -}}
{{- define "snapshotd.grace" -}}
{{- $calls := .Values.config.shutdown_timeout | default "20s" -}}
{{- if not (regexMatch "^([0-9]+[hms])+$" $calls) -}}
{{- fail (printf "config.shutdown_timeout: %q cannot be added to the time in which a pod stops: write it in hours, minutes and seconds, such as 1m30s" $calls) -}}
{{- end -}}
{{- toDate "2006-01-02 MST" "1970-01-01 UTC" | dateModify $calls | unixEpoch | add 40 -}}
{{- end -}}

{{- /* Settings that do not go together. */ -}}
{{- define "snapshotd.check" -}}
{{- $config := .Values.config -}}
{{- if not (or $config.clusters $config.clusters_dir) -}}
{{- fail "config.clusters is empty, and nothing would be saved: give at least one cluster, or config.clusters_dir" -}}
{{- end -}}
{{- if regexMatch "^(127\\.|localhost:|\\[::1\\])" $config.listen_http -}}
{{- fail "config.listen_http is on loopback, where the kubelet reaches no probe: set it to 0.0.0.0:7380" -}}
{{- end -}}
{{- if ne (($config.access | default dict).health | default "open") "open" -}}
{{- fail "config.access.health keeps the kubelet out, whose probes have no credentials, and each pod would be killed: set it to open" -}}
{{- end -}}
{{- if and $config.node_name (gt (int .Values.replicas) 1) -}}
{{- fail "config.node_name would be the name of all replicas, and each needs its own: leave it out, and each has that of its pod" -}}
{{- end -}}
{{- include "snapshotd.checkGRPC" . -}}
{{- end -}}

{{- /* The API lets others delete snapshots and download all secrets of Kubernetes. */ -}}
{{- define "snapshotd.checkGRPC" -}}
{{- $local := regexMatch "^(127\\.|localhost:|\\[::1\\]|unix:)" .Values.config.listen_grpc -}}
{{- if or .Values.grpc.enabled (not $local) -}}
{{- $opens := ternary "grpc.enabled" (printf "config.listen_grpc: %s" .Values.config.listen_grpc) .Values.grpc.enabled -}}
{{- if not (include "snapshotd.tls" .) -}}
{{- fail (printf "%s opens the API to other pods: set config.tls, with a client_ca or config.access" $opens) -}}
{{- end -}}
{{- if not (or .Values.config.tls.client_ca .Values.config.access) -}}
{{- fail (printf "%s lets every pod delete and download snapshots, because nobody is asked who they are: set config.tls.client_ca or config.access" $opens) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.grpc.enabled $local -}}
{{- fail "grpc.enabled needs an address that other pods reach: set config.listen_grpc to 0.0.0.0:7379" -}}
{{- end -}}
{{- end -}}
