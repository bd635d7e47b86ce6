"""The shim's own codec against protobuf: every field of every message, both ways."""

from __future__ import annotations

from typing import Any

import pytest
from corten_api.shim import corten_pb2, task_pb2, ttrpc_pb2
from corten_shim import envelopes, messages, wireformat
from google.protobuf import any_pb2, empty_pb2, timestamp_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError
from google.protobuf.message import Message as Reference
from hypothesis import given, settings
from hypothesis import strategies as st

KINDS = {
    FieldDescriptor.TYPE_STRING: wireformat.STRING,
    FieldDescriptor.TYPE_BYTES: wireformat.BYTES,
    FieldDescriptor.TYPE_UINT32: wireformat.UINT32,
    FieldDescriptor.TYPE_INT32: wireformat.INT32,
    FieldDescriptor.TYPE_ENUM: wireformat.INT32,
    FieldDescriptor.TYPE_INT64: wireformat.INT64,
    FieldDescriptor.TYPE_UINT64: wireformat.UINT64,
    FieldDescriptor.TYPE_BOOL: wireformat.BOOL,
    FieldDescriptor.TYPE_MESSAGE: wireformat.MESSAGE,
}
VALUES: dict[int, st.SearchStrategy[Any]] = {
    wireformat.STRING: st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    wireformat.BYTES: st.binary(max_size=200),
    wireformat.UINT32: st.integers(0, 2**32 - 1),
    wireformat.INT32: st.integers(-(2**31), 2**31 - 1),
    wireformat.INT64: st.integers(-(2**63), 2**63 - 1),
    wireformat.UINT64: st.integers(0, 2**64 - 1),
    wireformat.BOOL: st.booleans(),
}
REFUSED_UNREAD = {
    "CheckpointTaskRequest",
    "UpdateTaskRequest",
    "StatsRequest",
    "StatsResponse",
    "AnnotationsEntry",
}
MODULES: tuple[Any, ...] = (task_pb2, corten_pb2, ttrpc_pb2)
REFERENCES: dict[str, type[Reference]] = {
    name: getattr(module, name) for module in MODULES for name in module.DESCRIPTOR.message_types_by_name
} | {"Any": any_pb2.Any, "Empty": empty_pb2.Empty, "Timestamp": timestamp_pb2.Timestamp}
OURS: dict[str, type[wireformat.Message]] = {
    name: value
    for module in (envelopes, messages)
    for name, value in vars(module).items()
    if isinstance(value, type) and issubclass(value, wireformat.Message) and value is not wireformat.Message
}
NAMES = sorted(OURS)


def values(kind: type[wireformat.Message]) -> st.SearchStrategy[wireformat.Message]:
    fields: dict[str, st.SearchStrategy[Any]] = {}
    for field in kind.FIELDS:
        one: st.SearchStrategy[Any] = VALUES[field.kind] if field.message is None else values(field.message)
        if field.repeated:
            fields[field.name] = st.lists(one, max_size=3)
        else:
            fields[field.name] = st.none() | one if field.message is not None else one
    return st.fixed_dictionaries(fields).map(lambda chosen: kind(**chosen))


def filled(ours: wireformat.Message, reference: Reference) -> Reference:
    for field in ours.FIELDS:
        value = getattr(ours, field.name)
        if field.message is not None:
            for item in value if field.repeated else [value] if value is not None else []:
                target = getattr(reference, field.name)
                nested = target.add() if field.repeated else target
                nested.SetInParent() if not field.repeated else None
                filled(item, nested)
        elif field.repeated:
            getattr(reference, field.name).extend(value)
        else:
            setattr(reference, field.name, value)
    return reference


def test_every_message_that_is_not_refused_unread_is_known() -> None:
    assert set(REFERENCES) - REFUSED_UNREAD == set(OURS)


@pytest.mark.parametrize("name", NAMES)
def test_every_field_has_protobufs_number_name_and_kind(name: str) -> None:
    descriptor: Any = REFERENCES[name].DESCRIPTOR
    expected = [
        (field.number, field.name, KINDS[field.type], field.is_repeated, field.message_type and field.message_type.name)
        for field in sorted(descriptor.fields, key=lambda field: field.number)
    ]
    found = [
        (field.number, field.name, field.kind, field.repeated, field.message and field.message.__name__)
        for field in OURS[name].FIELDS
    ]
    assert found == expected
    assert set(OURS[name].__slots__) == {field.name for field in OURS[name].FIELDS}


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_bytes_are_those_of_protobuf_both_ways(name: str, data: st.DataObject) -> None:
    ours = data.draw(values(OURS[name]))
    reference = filled(ours, REFERENCES[name]())
    encoded = reference.SerializeToString(deterministic=True)
    assert ours.encode() == encoded
    decoded = OURS[name]()
    decoded.merge(encoded)
    assert decoded == ours


@settings(max_examples=300, deadline=None)
@given(noise=st.binary(max_size=60))
def test_what_protobuf_refuses_is_refused_and_what_it_takes_reads_the_same(noise: bytes) -> None:
    ours, reference = messages.CreateTaskRequest(), task_pb2.CreateTaskRequest()
    try:
        ours.merge(noise)
    except wireformat.DecodeError:
        return
    try:
        reference.ParseFromString(noise)
    except DecodeError:  # protobuf looks into unknown fields that we skip
        return
    reference.DiscardUnknownFields()
    assert ours.encode() == reference.SerializeToString(deterministic=True)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_message_cut_short_is_refused_or_reads_as_protobuf_reads_it(data: st.DataObject) -> None:
    whole = data.draw(values(messages.CreateTaskRequest)).encode()
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    reference = task_pb2.CreateTaskRequest()
    ours = messages.CreateTaskRequest()
    try:
        reference.ParseFromString(cut)
    except DecodeError:
        with pytest.raises(wireformat.DecodeError):
            ours.merge(cut)
    else:
        ours.merge(cut)
        assert ours.encode() == reference.SerializeToString(deterministic=True)


def test_fields_of_a_later_release_are_skipped() -> None:
    later = messages.StartRequest(id="a").encode() + b"\xfa\x07\x03new" + b"\xf8\x07\x01" + b"\xfd\x07abcd"
    request = messages.StartRequest()
    request.merge(later)
    assert request == messages.StartRequest(id="a")


def test_nesting_without_end_is_refused() -> None:
    data = b""
    for _ in range(40):
        data = messages.ProcessInfo(info=envelopes.Any(value=data)).encode()
    messages.ProcessInfo().merge(data)  # bytes inside Any are not looked into
    with pytest.raises(wireformat.DecodeError):
        envelopes.Response().merge(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")
