"""An ONNX graph in an order, and with names, that follow from what it computes alone.

TensorFlow, Keras and tf2onnx number what they make in a process, and tf2onnx sorts by these names:
two conversions of one model differ in both.
"""

from collections.abc import Sequence

import onnx


def canonical(
    model: onnx.ModelProto, inputs: Sequence[str], outputs: Sequence[str]
) -> onnx.ModelProto:
    """The same computation, with other names of its inputs, outputs and inner values."""
    graph = model.graph
    constants = {constant.name: constant for constant in graph.initializer}
    order = _in_order(graph)
    given = [*graph.input, *graph.output]
    names = dict(zip((value.name for value in given), (*inputs, *outputs), strict=True))
    for number, node in enumerate(order):
        node.name = f"{node.op_type}_{number}"
        for place, value in enumerate(node.output):
            names.setdefault(value, f"{node.name}_{place}" if place else node.name)
    used = [name for node in order for name in node.input if name in constants]
    for number, name in enumerate(dict.fromkeys(used)):
        names[name] = f"constant_{number}"
    for node in order:
        for values in (node.input, node.output):
            values[:] = [names.get(name, name) for name in values]
    for value in given:
        value.name = names[value.name]
    kept = [constants[name] for name in dict.fromkeys(used)]
    for constant in kept:
        constant.name = names[constant.name]
    renamed = onnx.helper.make_graph(order, "network", graph.input, graph.output, kept)
    opsets = [opset for opset in model.opset_import if not opset.domain]
    return onnx.helper.make_model(renamed, opset_imports=opsets, ir_version=model.ir_version)


def _in_order(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes, each after those whose results it takes: depth first from the outputs."""
    makers = {value: node for node in graph.node for value in node.output}
    order: list[onnx.NodeProto] = []
    placed: set[str] = set()
    pending = [(value.name, False) for value in reversed(graph.output)]
    while pending:
        value, ready = pending.pop()
        if value not in makers or value in placed:
            continue
        if ready:
            order.append(makers[value])
            placed.update(makers[value].output)
        else:
            pending.append((value, True))
            pending += [(name, False) for name in reversed(makers[value].input)]
    return order
