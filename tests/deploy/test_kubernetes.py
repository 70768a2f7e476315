"""deploy/kubernetes, against the models of the Kubernetes API and the settings of Dagster's launcher."""

from __future__ import annotations

import re
from typing import Any

import pytest
from dagster._config import process_config, resolve_to_config_type
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.launcher import K8sRunLauncher
from dagster_k8s.models import k8s_model_from_dict, k8s_snake_case_dict
from kubernetes.client import models

from tests.deploy.deployed import VERSION, load, load_all, parse, text, variables
from tests.deploy.test_containerfile import pins

VALUES = load("kubernetes/values.yaml")
LAUNCHER = VALUES["runLauncher"]["config"]["k8sRunLauncher"]
[CODE] = VALUES["dagster-user-deployments"]["deployments"]
PARTS = {"daemon": VALUES["dagsterDaemon"], "webserver": VALUES["dagsterWebserver"], "code": CODE}
MANIFESTS = [
    (name, manifest)
    for name in ("receiver.yaml", "network-policy.yaml", "secrets.example.yaml")
    for manifest in load_all(f"kubernetes/{name}")
    if manifest
]

# What the values of the chart may begin with, and what a part of it may have (values.schema.json of the chart).
CHART_KEYS = {
    "global", "nameOverride", "fullnameOverride", "rbacEnabled", "imagePullSecrets", "dagsterWebserver",
    "computeLogManager", "dagster-user-deployments", "scheduler", "runLauncher", "postgresql",
    "generatePostgresqlPasswordSecret", "generateCeleryConfigSecret", "rabbitmq", "redis", "flower", "ingress",
    "dagsterDaemon", "busybox", "migrate", "telemetry", "serviceAccount", "retention", "concurrency",
    "additionalInstanceConfig", "pythonLogs", "extraManifests",
}  # fmt: skip
LAUNCHER_KEYS = {
    "image", "imagePullPolicy", "jobNamespace", "loadInclusterConfig", "kubeconfigFile", "envConfigMaps", "envSecrets",
    "envVars", "volumeMounts", "volumes", "labels", "resources", "failPodOnRunFailure", "schedulerName",
    "securityContext", "runK8sConfig",
}  # fmt: skip
PART_KEYS = {
    "name", "image", "port", "dagsterApiGrpcArgs", "codeServerArgs", "includeConfigInLaunchedRuns", "env",
    "envConfigMaps", "envSecrets", "annotations", "nodeSelector", "affinity", "tolerations", "podSecurityContext",
    "securityContext", "resources", "livenessProbe", "readinessProbe", "startupProbe", "labels", "volumeMounts",
    "volumes", "schedulerName", "service", "replicaCount", "runCoordinator", "runMonitoring", "runRetries", "sensors",
    "schedules",
}  # fmt: skip


def strict(kind: str, data: Any) -> Any:
    """The object of the Kubernetes API; a key it has not, at any depth, is an error."""
    model = getattr(models, kind)
    return k8s_model_from_dict(model, k8s_snake_case_dict(model, data))


@pytest.mark.parametrize(
    ("name", "manifest"), MANIFESTS, ids=[f"{m['kind']}-{m['metadata']['name']}" for _, m in MANIFESTS]
)
def test_manifests_are_objects_of_the_api(name: str, manifest: dict[str, Any]) -> None:
    built = strict(f"V1{manifest['kind']}", manifest)

    assert name
    assert built.metadata.name
    assert built.metadata.namespace is None


def test_a_wrong_key_would_be_noticed() -> None:
    with pytest.raises(Exception, match="mountPaths"):
        strict("V1VolumeMount", {"name": "x", "mountPaths": "/x"})


def test_values_are_keys_of_the_chart() -> None:
    assert VALUES.keys() - CHART_KEYS == set()
    assert LAUNCHER.keys() - LAUNCHER_KEYS == set()
    assert {key for part in PARTS.values() for key in part} - PART_KEYS == set()


def test_the_chart_is_of_the_version_in_the_image() -> None:
    named = set(re.findall(r"\b1\.\d+\.\d+\b", text("kubernetes/values.yaml")))

    assert named == {pins("deploy/requirements.lock")["dagster"]}


def test_the_launcher_takes_its_settings() -> None:
    """As the chart writes them into dagster.yaml."""
    spec = LAUNCHER["runK8sConfig"]
    config = {
        "load_incluster_config": LAUNCHER["loadInclusterConfig"],
        "job_namespace": "medscribe",
        "image_pull_policy": LAUNCHER["imagePullPolicy"],
        "service_account_name": "medscribe-dagster",
        "dagster_home": VALUES["global"]["dagsterHome"],
        "instance_config_map": "medscribe-dagster-instance",
        "postgres_password_secret": VALUES["global"]["postgresqlSecretName"],
        "fail_pod_on_run_failure": LAUNCHER["failPodOnRunFailure"],
        "security_context": LAUNCHER["securityContext"],
        "run_k8s_config": {
            "pod_spec_config": spec["podSpecConfig"],
            "job_spec_config": spec["jobSpecConfig"],
        },
    }

    launcher: Any = K8sRunLauncher
    taken = process_config(resolve_to_config_type(launcher.config_type()), config)

    assert taken.success, taken.errors
    assert VALUES["runLauncher"]["type"] == "K8sRunLauncher"


def test_runs_get_what_the_code_location_has() -> None:
    """As the chart hands it to runs; Dagster refuses what is no setting of a pod."""
    context = K8sContainerContext.create_from_config(
        {
            "k8s": {
                "env_secrets": [each["name"] for each in CODE["envSecrets"]],
                "volumes": CODE["volumes"],
                "volume_mounts": CODE["volumeMounts"],
                "resources": CODE["resources"],
            }
        }
    )

    assert CODE["includeConfigInLaunchedRuns"] == {"enabled": True}
    container = context.run_k8s_config.container_config
    assert container["env_from"] == [{"secret_ref": {"name": "medscribe-settings"}}]
    assert {each["mount_path"] for each in container["volume_mounts"]} >= {"/tmp"}  # noqa: S108  # a mount
    assert LAUNCHER["securityContext"] == CODE["securityContext"]
    of_runs = LAUNCHER["runK8sConfig"]["podSpecConfig"]["security_context"]
    assert strict("V1PodSecurityContext", of_runs) == strict("V1PodSecurityContext", CODE["podSecurityContext"])


@pytest.mark.parametrize("name", PARTS)
def test_every_part_is_confined(name: str) -> None:
    part = PARTS[name]
    pod = strict("V1PodSecurityContext", part["podSecurityContext"])
    container = strict("V1SecurityContext", part["securityContext"])

    assert (pod.run_as_non_root, pod.run_as_user) == (True, 10001)
    assert (container.allow_privilege_escalation, container.read_only_root_filesystem) == (False, True)
    assert container.capabilities.drop == ["ALL"]
    assert strict("V1ResourceRequirements", part["resources"]).limits["memory"]
    names = {strict("V1Volume", each).name for each in part["volumes"]}
    mounts = [strict("V1VolumeMount", each) for each in part["volumeMounts"]]
    assert {mount.name for mount in mounts} == names
    assert {"/tmp", VALUES["global"]["dagsterHome"]} <= {mount.mount_path for mount in mounts}  # noqa: S108  # a mount
    assert part["image"]["tag"] == VERSION


def test_the_receiver_is_confined_and_of_this_version() -> None:
    [deployment] = [manifest for _, manifest in MANIFESTS if manifest["kind"] == "Deployment"]
    pod = strict("V1Deployment", deployment).spec.template.spec
    [container] = pod.containers

    assert container.image.endswith(f"/medscribe-pipeline:{VERSION}")
    assert parse(container.command) == "medscribe receive"
    assert (pod.security_context.run_as_non_root, pod.automount_service_account_token) == (True, False)
    assert container.security_context.read_only_root_filesystem is True
    assert container.readiness_probe.http_get.path == "/readyz"


def test_labels_lead_where_they_should() -> None:
    by_kind: dict[str, list[Any]] = {}
    for _, manifest in MANIFESTS:
        by_kind.setdefault(manifest["kind"], []).append(manifest)
    [deployment], [service], [ingress], [budget] = (
        by_kind[kind] for kind in ("Deployment", "Service", "Ingress", "PodDisruptionBudget")
    )
    labels = deployment["spec"]["template"]["metadata"]["labels"]

    for selector in (
        deployment["spec"]["selector"]["matchLabels"],
        service["spec"]["selector"],
        budget["spec"]["selector"]["matchLabels"],
        next(p for p in by_kind["NetworkPolicy"] if p["metadata"]["name"] == "receiver")["spec"]["podSelector"][
            "matchLabels"
        ],
    ):
        assert selector.items() <= labels.items()
    paths = ingress["spec"]["rules"][0]["http"]["paths"]
    assert [each["path"] for each in paths] == ["/callbacks/", "/webhooks/"]
    assert {each["backend"]["service"]["name"] for each in paths} == {service["metadata"]["name"]}
    [policy] = [p for p in by_kind["NetworkPolicy"] if p["metadata"]["name"] == "code-location"]
    assert policy["spec"]["ingress"][0]["ports"][0]["port"] == CODE["port"]


def test_every_secret_that_is_named_is_in_the_list_and_has_no_value() -> None:
    listed = {m["metadata"]["name"]: m for name, m in MANIFESTS if name == "secrets.example.yaml"}
    named = {VALUES["global"]["postgresqlSecretName"], *(each["name"] for each in CODE["envSecrets"])}
    named |= set(re.findall(r"(?:secretRef|configMap):\n\s+name: (\S+)", text("kubernetes/receiver.yaml")))
    named |= {each["configMap"]["name"] for part in PARTS.values() for each in part["volumes"] if "configMap" in each}

    assert named == listed.keys()
    values = [value for each in listed.values() for value in (each.get("stringData") or each["data"]).values()]
    assert set(values) == {""}


def test_code_location_is_what_dagster_serves() -> None:
    command = ["dagster", "api", "grpc", "-h", "127.0.0.1", "-p", str(CODE["port"]), *CODE["dagsterApiGrpcArgs"]]

    assert parse(command) == "dagster api grpc"


def test_no_variable_kubernetes_makes_of_a_service_is_a_setting() -> None:
    """Every pod is told of every service of its namespace: `NAME_PORT`, `NAME_SERVICE_HOST` and so on."""
    services = [manifest["metadata"]["name"] for _, manifest in MANIFESTS if manifest["kind"] == "Service"]
    prefixes = [name.upper().replace("-", "_") for name in (*services, CODE["name"])]
    made = {f"{prefix}_{end}" for prefix in prefixes for end in ("PORT", "SERVICE_HOST", "SERVICE_PORT")}

    assert len(made) == 6
    assert made & variables() == set()
