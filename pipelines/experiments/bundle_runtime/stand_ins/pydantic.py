"""Settings models out of settings that have been checked already: the part of pydantic that a bundle needs.

A bundle holds plans as they were written out after they had been validated, so types and bounds are not checked again.
Everything that makes a value out of another is done as pydantic does it: nested models, unions by `kind`, tuples,
defaults, validators, and `model_dump`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, ClassVar, Union, get_args, get_origin, get_type_hints

SerializerFunctionWrapHandler = Callable[[Any], dict[str, Any]]
_MISSING: Any = object()


class ValidationError(ValueError):
    """Settings that cannot be used."""

    def errors(self) -> list[dict[str, Any]]:
        """The one problem, as pydantic words it."""
        return [{"type": "value_error", "loc": (), "msg": str(self)}]


def ConfigDict(**settings: Any) -> dict[str, Any]:
    """A model's configuration; here models are always frozen and closed."""
    return settings


@dataclass(frozen=True)
class FieldInfo:
    """A field's default, the key that says which member of a union is meant, and for which values it is not written."""

    default: Any = _MISSING
    discriminator: str | None = None
    exclude_if: Callable[[Any], bool] | None = None


def Field(
    default: Any = _MISSING,
    *,
    discriminator: str | None = None,
    exclude_if: Callable[[Any], bool] | None = None,
    **_: Any,
) -> Any:
    """A field; descriptions and bounds are of no use here."""
    return FieldInfo(_MISSING if default is ... else default, discriminator, exclude_if)


@dataclass(frozen=True)
class BeforeValidator:
    """A function over a value before it is given its type."""

    function: Callable[[Any], Any]


@dataclass(frozen=True)
class AfterValidator:
    """A function over a value that has its type."""

    function: Callable[[Any], Any]


@dataclass(frozen=True)
class _Marked:
    """A method that is called while a model is made or written: for what, of which fields, and itself."""

    role: str
    fields: tuple[str, ...]
    function: Any

    def of(self, cls: type) -> Callable[..., Any]:
        """The method, bound where it is one of the class."""
        return self.function.__get__(None, cls) if isinstance(self.function, classmethod) else self.function


def model_validator(*, mode: str) -> Callable[[Any], Any]:
    """Mark a method over the data before, or the model after, it is made."""
    return lambda function: _Marked(mode, (), function)


def field_validator(*fields: str) -> Callable[[Any], Any]:
    """Mark a class method over a field's value."""
    return lambda function: _Marked("field", fields, function)


def model_serializer(*, mode: str) -> Callable[[Any], Any]:
    """Mark a method that writes a model out, given what would be written without it."""
    assert mode == "wrap"
    return lambda function: _Marked("write", (), function)


class BaseModel:
    """Settings by name, immutable."""

    _defaults: ClassVar[dict[str, Any]] = {}
    _unwritten: ClassVar[dict[str, Callable[[Any], bool]]] = {}
    _marked: ClassVar[dict[str, _Marked]] = {}
    _types: ClassVar[dict[str, Any] | None] = None
    model_fields_set: set[str]

    def __init_subclass__(cls, **_: Any) -> None:
        cls._defaults, cls._unwritten = dict(cls._defaults), dict(cls._unwritten)
        cls._marked, cls._types = dict(cls._marked), None
        for name, value in list(vars(cls).items()):
            if isinstance(value, _Marked):
                cls._marked[name] = value
                delattr(cls, name)
            elif name in vars(cls).get("__annotations__", {}) and not name.startswith(("_", "model_config")):
                cls._defaults[name] = value.default if isinstance(value, FieldInfo) else value
                if isinstance(value, FieldInfo) and value.exclude_if is not None:
                    cls._unwritten[name] = value.exclude_if
                delattr(cls, name)

    def __init__(self, **data: Any) -> None:
        cls = type(self)
        for marked in cls._of_role("before"):
            data = marked.of(cls)(data)
        types = cls._field_types()
        if unknown := [name for name in data if name not in types]:
            raise ValidationError(f"{cls.__name__} has no setting {unknown[0]!r}")
        values = {name: cls._value(name, kind, data) for name, kind in types.items()}
        vars(self).update(values, model_fields_set=set(data))
        for marked in cls._of_role("after"):
            marked.function(self)

    @classmethod
    def model_validate(cls, data: Any) -> Any:
        """A model from its settings, or itself."""
        if isinstance(data, cls):
            return data
        for marked in cls._of_role("before"):
            data = marked.of(cls)(data)
        if not isinstance(data, Mapping):
            raise ValidationError(f"{cls.__name__} is made of settings by name, not {data!r}")
        return cls(**data)

    def model_dump(self, *, mode: str = "python") -> dict[str, Any]:
        """The settings as plain values; under mode `json`, tuples are lists."""
        cls = type(self)

        def plain(model: "BaseModel") -> dict[str, Any]:
            written = (name for name in cls._field_types() if not cls._is_unwritten(name, getattr(model, name)))
            return {name: _plain(getattr(model, name), mode) for name in written}

        written = [marked.function(self, plain) for marked in cls._of_role("write")]
        return written[-1] if written else plain(self)

    def model_copy(self, *, update: Mapping[str, Any] | None = None) -> Any:
        """The same model, but for fields that are set as given."""
        copy = object.__new__(type(self))
        vars(copy).update(vars(self), **(update or {}), model_fields_set=self.model_fields_set | set(update or {}))
        return copy

    @classmethod
    def _is_unwritten(cls, name: str, value: Any) -> bool:
        return name in cls._unwritten and cls._unwritten[name](value)

    @classmethod
    def _of_role(cls, role: str) -> Iterator[_Marked]:
        return (marked for marked in cls._marked.values() if marked.role == role)

    @classmethod
    def _field_types(cls) -> dict[str, Any]:
        if vars(cls).get("_types") is None:
            hints = get_type_hints(cls, include_extras=True)
            cls._types = {
                name: kind for name, kind in hints.items()
                if not name.startswith("_") and not name.startswith("model_") and get_origin(kind) is not ClassVar
            }  # fmt: skip
        assert cls._types is not None
        return cls._types

    @classmethod
    def _value(cls, name: str, kind: Any, data: Mapping[str, Any]) -> Any:
        value = data.get(name, _MISSING)
        if value is _MISSING:
            value = cls._defaults.get(name, _MISSING)
            if value is _MISSING:
                raise ValidationError(f"{cls.__name__}: {name!r} is missing")
        value = typed(value, kind)
        for marked in cls._of_role("field"):
            if name in marked.fields:
                value = marked.of(cls)(value)
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        raise ValidationError(f"{type(self).__name__} is frozen")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash((type(self), *self._values()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{n}={getattr(self, n)!r}' for n in self._field_types())})"

    def _values(self) -> list[Any]:
        return [getattr(self, name) for name in self._field_types()]


def typed(value: Any, kind: Any, discriminator: str | None = None) -> Any:
    """A value as a field of a type holds it."""
    origin = get_origin(kind)
    if origin is Annotated:
        return _annotated(value, kind.__origin__, kind.__metadata__, discriminator)
    if origin in (Union, UnionType):
        return _of_union(value, get_args(kind), discriminator)
    if origin is tuple:
        members = get_args(kind)
        if members[-1] is ...:
            return tuple(typed(item, members[0]) for item in value)
        return tuple(typed(item, member) for item, member in zip(value, members, strict=True))
    if origin is list:
        return [typed(item, get_args(kind)[0]) for item in value]
    if origin in (dict, Mapping) or (isinstance(origin, type) and issubclass(origin, Mapping)):
        of_key, of_value = get_args(kind)
        return {typed(key, of_key): typed(item, of_value) for key, item in value.items()}
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind.model_validate(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


def _annotated(value: Any, kind: Any, extras: tuple[Any, ...], discriminator: str | None) -> Any:
    for extra in extras:
        discriminator = getattr(extra, "discriminator", None) or discriminator
    for extra in reversed(extras):
        if isinstance(extra, BeforeValidator):
            value = extra.function(value)
    value = typed(value, kind, discriminator)
    for extra in extras:
        if isinstance(extra, AfterValidator):
            value = extra.function(value)
    return value


def _of_union(value: Any, members: tuple[Any, ...], discriminator: str | None) -> Any:
    if value is None and type(None) in members:
        return None
    models = [member for member in members if isinstance(member, type) and issubclass(member, BaseModel)]
    if isinstance(value, tuple(models)):
        return value
    if discriminator is None or not isinstance(value, Mapping):
        others = [member for member in members if member is not type(None)]
        return typed(value, others[0]) if len(others) == 1 else value
    for model in models:
        named = model._field_types()[discriminator]
        if value.get(discriminator, model._defaults.get(discriminator)) in get_args(named):
            return model.model_validate(value)
    raise ValidationError(f"there is no kind {value.get(discriminator)!r}")


def _plain(value: Any, mode: str) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode=mode)
    if isinstance(value, Mapping):
        return {key: _plain(item, mode) for key, item in value.items()}
    if isinstance(value, list | tuple):
        plain = [_plain(item, mode) for item in value]
        return plain if mode == "json" or isinstance(value, list) else tuple(plain)
    return value
