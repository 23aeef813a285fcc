"""The files in deploy/ fit each other, the image, the locks and Dagster's own configuration types.

No cluster is needed, nor the charts: what these make of a value is stated here.
"""

import re
import tomllib
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from dagster._config import process_config
from dagster._core.instance.config import dagster_instance_config_schema
from dagster_k8s import K8sRunLauncher
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.job import construct_dagster_k8s_job
from dagster_postgres import PostgresRunStorage
from dagster_postgres.utils import pg_url_from_config
from kubernetes.client import ApiClient
from sqlalchemy import create_engine

from tests.workspaces import CHECKOUT

DEPLOY = CHECKOUT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
README = (DEPLOY / "README.md").read_text(encoding="utf-8")
VALUES: dict[str, Any] = yaml.safe_load((DEPLOY / "values.yaml").read_text(encoding="utf-8"))
INSTANCE = yaml.safe_load((CHECKOUT / "dagster_home" / "dagster.yaml").read_text(encoding="utf-8"))
VOLUME, FILLING = yaml.safe_load_all((DEPLOY / "data-volume.yaml").read_text(encoding="utf-8"))
RAY, POLICY = yaml.safe_load_all((DEPLOY / "raycluster.yaml").read_text(encoding="utf-8"))
HEAD = RAY["spec"]["headGroupSpec"]["template"]["spec"]
[GROUP] = RAY["spec"]["workerGroupSpecs"]
WORKER = GROUP["template"]["spec"]
[LOCATION] = VALUES["dagster-user-deployments"]["deployments"]
LAUNCHER = VALUES["runLauncher"]["config"]["k8sRunLauncher"]
RELEASE = "dagster"
GPU = "nvidia.com/gpu"


def launcher_config() -> dict[str, Any]:
    """What the chart writes into the instance for a release named `RELEASE`."""
    return {
        "load_incluster_config": True,
        "job_namespace": "default",
        "image_pull_policy": "Always",
        "service_account_name": RELEASE,
        "dagster_home": VALUES["global"]["dagsterHome"],
        "instance_config_map": f"{RELEASE}-instance",
        "postgres_password_secret": f"{RELEASE}-postgresql-secret",
        "security_context": LAUNCHER["securityContext"],
        "run_k8s_config": {"pod_spec_config": LAUNCHER["runK8sConfig"]["podSpecConfig"]},
    }


def storage_config() -> dict[str, Any]:
    postgresql = VALUES["postgresql"]
    return {
        "postgres_db": {
            "username": postgresql["postgresqlUsername"],
            "password": {"env": "DAGSTER_PG_PASSWORD"},
            "hostname": f"{RELEASE}-postgresql",
            "db_name": postgresql["postgresqlDatabase"],
            "port": 5432,
            "params": {},
            "scheme": postgresql["postgresqlScheme"],
        }
    }


def pod_of_a_run() -> dict[str, Any]:
    """The pod that Dagster makes of the launcher and the code location."""
    config = launcher_config()
    launcher = {key: config[key] for key in ("security_context", "run_k8s_config")}
    location = {
        "image_pull_policy": LOCATION["image"]["pullPolicy"],
        "env": LOCATION["env"],
        "resources": LOCATION["resources"],
        "volumes": LOCATION["volumes"],
        "volume_mounts": LOCATION["volumeMounts"],
    }
    of_launcher, of_location = (
        K8sContainerContext.create_from_config({"k8s": part}) for part in (launcher, location)
    )
    context = of_launcher.merge(of_location)
    image = "{repository}:{tag}".format(**LOCATION["image"])
    job = construct_dagster_k8s_job(
        context.get_k8s_job_config(image, SimpleNamespace(**config)),
        args=["dagster", "api", "execute_run"],
        job_name="dagster-run-1",
        user_defined_k8s_config=context.run_k8s_config,
    )
    return ApiClient().sanitize_for_serialization(job)["spec"]["template"]["spec"]


PODS = {
    "run": pod_of_a_run(),
    "head": HEAD,
    "worker": WORKER,
    "filling": FILLING["spec"],
}


def mounts(pod: dict[str, Any]) -> dict[str, Any]:
    """What is mounted: the volume's source and the path in it, by where."""
    sources = {volume.pop("name"): volume for volume in map(dict, pod["volumes"])}
    [container] = pod["containers"]
    return {
        mount["mountPath"]: (sources[mount["name"]], mount.get("subPath"))
        for mount in container["volumeMounts"]
    }


def locked(package: str, lock: str) -> str:
    text = (CHECKOUT / "requirements" / f"{lock}.txt").read_text(encoding="utf-8")
    [version] = re.findall(rf"(?m)^{package}==(\S+)", text)
    return version


def test_dagster_takes_the_chart_s_instance(monkeypatch):
    monkeypatch.setenv("DAGSTER_PG_PASSWORD", "secret")
    launcher = process_config(K8sRunLauncher.config_type(), launcher_config())
    assert launcher.success, launcher.errors
    storage = process_config(PostgresRunStorage.config_type(), storage_config())
    assert storage.success, storage.errors
    create_engine(pg_url_from_config(storage.value))  # its driver is installed
    more = process_config(dagster_instance_config_schema(), VALUES["additionalInstanceConfig"])
    assert more.success, more.errors


def test_the_chart_s_instance_is_the_checkout_s():
    monitoring = VALUES["dagsterDaemon"]["runMonitoring"]
    assert VALUES["dagsterDaemon"]["runRetries"] == {"enabled": False}  # named twice otherwise
    assert {
        **VALUES["additionalInstanceConfig"],
        "telemetry": VALUES["telemetry"],
        "python_logs": {"python_log_level": VALUES["pythonLogs"]["pythonLogLevel"]},
        "run_monitoring": {
            "enabled": monitoring["enabled"],
            "free_slots_after_run_end_seconds": monitoring["freeSlotsAfterRunEndSeconds"],
        },
    } == INSTANCE


def test_the_location_is_that_of_the_workspace():
    text = (CHECKOUT / "workspace.yaml").read_text(encoding="utf-8")
    [location] = yaml.safe_load(text)["load_from"]
    module = location["python_module"]
    assert LOCATION["dagsterApiGrpcArgs"] == ["--module-name", module["module_name"]]
    [server] = VALUES["dagsterWebserver"]["workspace"]["servers"]
    assert server == {
        "host": LOCATION["name"],
        "port": LOCATION["port"],
        "name": module["location_name"],
    }


def test_only_workers_of_ray_ask_for_gpus():
    [worker] = WORKER["containers"]
    assert worker["resources"]["limits"][GPU] == 1
    others = [VALUES, VOLUME, FILLING, HEAD, PODS["run"]]
    assert [other for other in others if GPU in yaml.safe_dump(other)] == []


@pytest.mark.parametrize("pod", PODS.values(), ids=PODS)
def test_every_pod_has_the_checkout_and_is_not_root(pod):
    [workdir] = re.findall(r"(?m)^WORKDIR (\S+)", DOCKERFILE)
    [user] = re.findall(r"(?m)^USER (\d+)", DOCKERFILE)
    assert f"CIFAR_ROOT={workdir} " in DOCKERFILE
    claim = {"persistentVolumeClaim": {"claimName": VOLUME["metadata"]["name"]}}
    assert mounts(pod)[workdir] == (claim, None)
    security = pod["securityContext"]
    assert (security["runAsNonRoot"], security["runAsUser"]) == (True, int(user))
    [container] = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert re.fullmatch(r"\S+/cifar-pipeline:(cpu|gpu)", container["image"])


def test_webserver_daemon_and_location_are_not_root():
    for part in (VALUES["dagsterWebserver"], VALUES["dagsterDaemon"], LOCATION):
        assert part["image"] == LOCATION["image"]
        assert part["podSecurityContext"] == HEAD["securityContext"]
        assert part["securityContext"] == HEAD["containers"][0]["securityContext"]


@pytest.mark.parametrize("name", ["run", "head", "worker"])
def test_runs_and_steps_have_one_instance(name):
    home = VALUES["global"]["dagsterHome"]
    source, path = mounts(PODS[name])[f"{home}/dagster.yaml"]
    assert (source["configMap"]["name"], path) == (f"{RELEASE}-instance", "dagster.yaml")
    [container] = PODS[name]["containers"]
    env = {each["name"]: each.get("value") or each["valueFrom"] for each in container["env"]}
    assert env["DAGSTER_HOME"] == home
    assert env["DAGSTER_PG_PASSWORD"]["secretKeyRef"] == {
        "name": f"{RELEASE}-postgresql-secret",
        "key": "postgresql-password",
    }
    ports = {port["name"]: port["containerPort"] for port in HEAD["containers"][0]["ports"]}
    service = f"{RAY['metadata']['name']}-head-svc"  # KubeRay's name for it
    assert env["CIFAR_RAY_ADDRESS"] == f"http://{service}:{ports['dashboard']}"


def test_ray_is_the_locked_one_and_kept_to_the_namespace():
    assert [locked("ray", lock) for lock in ("cpu", "gpu")] == [RAY["spec"]["rayVersion"]] * 2
    labels = POLICY["spec"]["podSelector"]["matchLabels"]
    assert labels == {"ray.io/cluster": RAY["metadata"]["name"]}
    assert POLICY["spec"]["ingress"] == [{"from": [{"podSelector": {}}]}]


def test_the_image_is_made_from_the_locks():
    names = re.findall(r"requirements/(\S+?\.txt)", DOCKERFILE)
    expanded = {name.replace("${BUILD}", build) for name in names for build in ("cpu", "gpu")}
    assert expanded == {"uv.txt", "dvc.txt", "cpu.txt", "gpu.txt"}
    installs = re.findall(r"(?:pip install|uv pip \w+) [^\\\n]*", DOCKERFILE)
    assert all("--require-hashes" in line or "--no-deps" in line for line in installs)


def test_the_readme_names_what_is_there():
    found = set(re.findall(r"(?<!/)\bdeploy/([\w.-]*\w)", README))
    assert {path.name for path in DEPLOY.iterdir()} - {"README.md"} == found
    pinned = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    [dagster] = [each for each in pinned["dependencies"] if each.startswith("dagster==")]
    assert f"--version {dagster.removeprefix('dagster==')} -f deploy/values.yaml" in README
