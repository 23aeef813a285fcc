"""A copy of the checkout in which DVC has recorded every stage, with files of a few bytes for
artefacts: what is stale does not depend on what they hold."""

import json
import sys

from cifar_pipeline.graph.plan import in_dvc, read_code_again, text_of
from cifar_pipeline.graph.stages import build_stages
from cifar_pipeline.settings.reading import load_params
from tests.workspaces import Copy

VERSIONS = """
import json
from cifar_pipeline.definitions import defs
graph = defs.resolve_asset_graph()
print(json.dumps({
    "@".join(key.path): graph.get(key).code_version for key in graph.get_all_asset_keys()
}))
"""


class Recorded(Copy):
    """The copy, under the profile `smoke`."""

    is_complete = False

    def complete(self) -> None:
        """Make something for every output, and have DVC record it."""
        for stage in build_stages(load_params(self.root / "params.yaml")).values():
            for output in stage.outputs:
                path = self.root / output
                if path.suffix and path.name != "tables":
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(f"{output}\n")
                else:
                    path.mkdir(parents=True, exist_ok=True)
                    for name in ("model.keras", "labels.json"):
                        (path / name).write_text(f"{output}/{name}\n")
        self.cifar("plan")
        self.dvc("commit", "--force")
        self.is_complete = True

    def plans(self) -> dict[str, str]:
        """What the plan says of each stage of DVC, computed here from the copy's files."""
        read_code_again()
        params = load_params(self.root / "params.yaml")
        package = self.root / "cifar_pipeline"
        return {
            stage.name: text_of(stage, package)
            for stage in build_stages(params).values()
            if in_dvc(stage, params)
        }

    def stale_for_dvc(self) -> set[str]:
        """The stages that `dvc status` calls stale, once its stage `plan` has run."""
        self.cifar("plan")
        return set(json.loads(self.dvc("status", "--json"))) - {"plan"}

    def code_versions(self) -> dict[str, str]:
        """Dagster's code version of each asset that DVC versions too."""
        done = self.run(sys.executable, "-c", VERSIONS)
        versions: dict[str, str] = json.loads(done.stdout)
        return {
            name: version for name, version in versions.items() if not name.startswith("search")
        }

    def cifar(self, *arguments: str) -> str:
        return self.run(sys.executable, "-m", "cifar_pipeline", *arguments).stdout
