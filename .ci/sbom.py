"""Print the SBOM of the wheel, as CycloneDX: what `curr-ab` and its extras but `dev` have installed here."""

from collections.abc import Iterator
from importlib.metadata import distribution

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

Need = tuple[str, frozenset[str]]  # a package, and the extras of it that are wanted


def direct(name: str, extras: frozenset[str]) -> Iterator[Need]:
    for one in map(Requirement, distribution(name).requires or ()):
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield canonicalize_name(one.name), frozenset(one.extras)


def reached(name: str, extras: frozenset[str]) -> dict[str, set[str]]:
    """All that is needed, and what each part of it needs itself."""
    edges: dict[str, set[str]] = {}
    seen: set[Need] = set()
    waiting: list[Need] = [(name, extras)]
    while waiting:
        need = waiting.pop()
        if need not in seen:
            seen.add(need)
            found = list(direct(*need))
            edges.setdefault(need[0], set()).update(other for other, _ in found if other != need[0])
            waiting += found
    return edges


def component(name: str, scope: ComponentScope | None) -> Component:
    metadata = distribution(name).metadata
    version, licence = metadata["Version"], metadata.get("License-Expression")
    return Component(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        scope=scope,
        licenses=[LicenseFactory().make_with_expression(licence)] if licence else [],
        purl=PackageURL("pypi", name=name, version=version),
        bom_ref=name,
    )


root = "curr-ab"
offered = frozenset(distribution(root).metadata.get_all("Provides-Extra", ())) - {"dev"}
required, edges = reached(root, frozenset()), reached(root, offered)
components = {
    name: component(name, ComponentScope.REQUIRED if name in required else ComponentScope.OPTIONAL)
    for name in edges.keys() - {root}
}
bom = Bom(components=components.values())
bom.metadata.component = components[root] = component(root, None)
for name, needed in edges.items():
    bom.register_dependency(components[name], [components[other] for other in needed])
print(JsonV1Dot6(bom).output_as_string(indent=2))
