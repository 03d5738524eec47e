{{- define "doorward.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "doorward.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "doorward.labels" -}}
{{ include "doorward.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: control-plane
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "doorward.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "doorward.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name: say which account the pods have, because serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "doorward.signingSecret" -}}
{{- default (printf "%s-signing-key" (include "doorward.fullname" .)) .Values.signingKey.existingSecret -}}
{{- end -}}

{{- define "doorward.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- /* What must not be guessed. */ -}}
{{- define "doorward.check" -}}
{{- if .Values.insecure -}}
{{- if .Values.clients -}}
{{- fail "clients: with insecure: true clients have no names; say one or the other" -}}
{{- end -}}
{{- else -}}
{{- if not .Values.tls.secretName -}}
{{- fail "tls.secretName: name the Secret with tls.crt, tls.key and ca.crt of the gRPC port, or say insecure: true where a mesh does mutual TLS" -}}
{{- end -}}
{{- if not .Values.clients -}}
{{- fail "clients: say who may do what, for example clients: [\"proxy=spiffe://cluster.local/ns/shop/*\"], or insecure: true where a mesh does mutual TLS" -}}
{{- end -}}
{{- end -}}
{{- end -}}
