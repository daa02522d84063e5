"""Small faults in a module's code, one at a time: what ``scripts/mutate.py`` tries.

The syntax tree says where a fault can be: another operator or another of NumPy's functions, another constant,
a statement or an ``out=`` left out, a call left out of those that a plan has prepared, a bound of a slice
left out or moved, a condition turned round. Text, annotations, decorators and asserts stay as they are.
"""

from __future__ import annotations

import ast
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

OPERATORS: dict[type[ast.AST], tuple[type[ast.AST], ...]] = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.FloorDiv,),
    ast.Div: (ast.Mult,),
    ast.FloorDiv: (ast.Mult,),
    ast.Mod: (ast.Mult,),
    ast.Pow: (ast.Mult,),
    ast.LShift: (ast.RShift,),
    ast.RShift: (ast.LShift,),
    ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,),
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
}
FUNCTIONS = {
    "add": "subtract",
    "subtract": "add",
    "multiply": "divide",
    "divide": "multiply",
    "maximum": "minimum",
    "minimum": "maximum",
    "max": "min",
    "min": "max",
    "any": "all",
    "all": "any",
    "argmax": "argmin",
    "exp": "negative",
    "log": "negative",
    "log1p": "negative",
    "sqrt": "negative",
    "abs": "negative",
    "negative": "positive",
    "zeros": "ones",
    "ones": "zeros",
    "less": "less_equal",
    "less_equal": "less",
    "greater": "greater_equal",
    "greater_equal": "greater",
    "equal": "not_equal",
    "sum": "prod",
    "prod": "sum",
}
"""NumPy's and Python's functions that stand for an operator."""


@dataclass(frozen=True)
class Mutant:
    """One fault in one file."""

    path: str
    scope: str
    """The function or class, by its qualified name."""
    operator: str
    line: int
    before: str
    after: str
    ordinal: int
    """Counts mutants that are alike but for their place in the scope."""
    span: tuple[int, int]
    """The bytes of the file that ``after`` replaces."""
    lines: tuple[int, int]
    """First and last line of the statement, or of its head."""

    @property
    def key(self) -> str:
        """What stays the same when other code moves."""
        return "|".join((self.path, self.scope, self.operator, self.before, self.after, str(self.ordinal)))


@dataclass
class _Finder(ast.NodeVisitor):
    """Collects the mutants of one file."""

    path: str
    source: str
    found: list[Mutant] = field(default_factory=list)
    _scope: list[str] = field(default_factory=list)
    _statement: ast.stmt | None = None
    _alike: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._text = self.source.encode()
        starts, total = [0], 0
        for line in self._text.splitlines(keepends=True):
            total += len(line)
            starts.append(total)
        self._starts = starts

    def _span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        first = self._starts[node.lineno - 1] + node.col_offset
        return first, self._starts[node.end_lineno - 1] + node.end_col_offset

    def _add(self, operator: str, node: ast.expr | ast.stmt, after: str) -> None:
        first, last = self._span(node)
        before = self._text[first:last].decode()
        if before == after or (isinstance(node, ast.expr) and f"({before})" == after):
            return
        scope = ".".join(self._scope)
        mark = "|".join((scope, operator, before, after))
        self._alike[mark] += 1
        place = (first, last)
        self.found.append(
            Mutant(
                self.path,
                scope,
                operator,
                node.lineno,
                before,
                after,
                self._alike[mark],
                place,
                self._lines(),
            )
        )

    def _lines(self) -> tuple[int, int]:
        statement = self._statement
        assert statement is not None
        assert statement.end_lineno is not None
        body = getattr(statement, "body", None)
        if isinstance(body, list):
            return statement.lineno, max(statement.lineno, body[0].lineno - 1)
        return statement.lineno, statement.end_lineno

    def _replace(self, operator: str, node: ast.expr, new: ast.expr) -> None:
        self._add(operator, node, f"({ast.unparse(ast.fix_missing_locations(new))})")

    def visit(self, node: ast.AST) -> None:
        """Visit a node; a statement and a function's name are remembered for what is in it."""
        if not isinstance(node, ast.stmt):
            super().visit(node)
            return
        outer, self._statement = self._statement, node
        self._drop(node)
        super().visit(node)
        self._statement = outer

    def _drop(self, node: ast.stmt) -> None:
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if (isinstance(node, ast.Expr) and not is_docstring) or isinstance(
            node, (ast.AugAssign, ast.Raise, ast.Break, ast.Continue, ast.Delete)
        ):
            self._add("statement dropped", node, "pass")
        elif isinstance(node, ast.Assign) and not all(isinstance(t, ast.Name) for t in node.targets):
            # without a plain name there would only be a NameError
            if all(isinstance(t, (ast.Attribute, ast.Subscript)) for t in node.targets):
                self._add("statement dropped", node, "pass")
        elif isinstance(node, ast.Return) and node.value is not None:
            self._add("return value dropped", node, "return None")

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """Defaults and body; annotations and decorators are not behaviour."""
        self._scope.append(node.name)
        for default in (*node.args.defaults, *filter(None, node.args.kw_defaults)):
            self.visit(default)
        for statement in node.body:
            self.visit(statement)
        self._scope.pop()

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """The body."""
        self._scope.append(node.name)
        for statement in node.body:
            self.visit(statement)
        self._scope.pop()

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """The value, not the annotation."""
        if node.value is not None:
            self.visit(node.value)

    def visit_Assert(self, node: ast.Assert) -> None:
        """Asserts narrow types; nothing relies on them."""

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Python before 3.12 does not say where the parts of an f-string are."""

    def visit_BinOp(self, node: ast.BinOp) -> None:
        """Another operator; lists can only be added."""
        listed = any(isinstance(part, (ast.List, ast.ListComp)) for part in (node.left, node.right))
        for new in () if listed else OPERATORS.get(type(node.op), ()):
            self._replace("arithmetic", node, ast.BinOp(node.left, new(), node.right))  # type: ignore[arg-type]
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        """Another operator; lists can only be added."""
        listed = isinstance(node.value, (ast.List, ast.ListComp))
        for new in () if listed else OPERATORS.get(type(node.op), ()):
            changed = ast.AugAssign(node.target, new(), node.value)  # type: ignore[arg-type]
            self._add("arithmetic", node, ast.unparse(ast.fix_missing_locations(changed)))
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        """The operand alone."""
        self._replace("sign or not dropped", node, node.operand)
        if not isinstance(node.operand, ast.Constant):
            self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        """And for or."""
        (new,) = OPERATORS[type(node.op)]
        self._replace("boolean", node, ast.BoolOp(new(), node.values))  # type: ignore[arg-type]
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        """Another comparison, one at a time."""
        for i, operator in enumerate(node.ops):
            for new in OPERATORS[type(operator)]:
                ops = [*node.ops[:i], new(), *node.ops[i + 1 :]]
                self._replace("comparison", node, ast.Compare(node.left, ops, node.comparators))  # type: ignore[arg-type]
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        """One more, half as much again, or the other truth value; text stays."""
        value = node.value
        if isinstance(value, bool):
            self._add("constant", node, str(not value))
        elif isinstance(value, int):
            self._add("constant", node, str(value + 1))
        elif isinstance(value, float):
            self._add("constant", node, repr(value * 1.5 or 1.0))

    def visit_If(self, node: ast.If) -> None:
        """The condition turned round."""
        if ast.unparse(node.test) == "TYPE_CHECKING":
            return
        self._negate(node.test)
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        """The condition turned round."""
        self._negate(node.test)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        """The condition turned round."""
        for test in node.ifs:
            self._negate(test)
        self.generic_visit(node)

    def _negate(self, test: ast.expr) -> None:
        one_comparison = isinstance(test, ast.Compare) and len(test.ops) == 1
        if not one_comparison and not isinstance(test, ast.UnaryOp):  # those are turned round anyway
            self._replace("condition", test, ast.UnaryOp(ast.Not(), test))

    def visit_Call(self, node: ast.Call) -> None:
        """The same without its ``out=``; and what a plan has prepared left out."""
        if isinstance(node.func, ast.Name) and node.func.id == "call":
            self._replace("prepared call dropped", node, ast.parse("call(int)", mode="eval").body)
        rest = [k for k in node.keywords if k.arg != "out"]
        if len(rest) < len(node.keywords):
            self._replace("out= dropped", node, ast.Call(node.func, node.args, rest))
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        """``np.add`` is an operator too."""
        if isinstance(node.value, ast.Name) and node.value.id == "np" and node.attr in FUNCTIONS:
            self._replace("function", node, ast.Attribute(node.value, FUNCTIONS[node.attr]))
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        """``min`` and ``max`` and their like."""
        if isinstance(node.ctx, ast.Load) and node.id in ("min", "max", "any", "all", "sum", "prod"):
            self._replace("function", node, ast.Name(FUNCTIONS[node.id]))

    def visit_Slice(self, node: ast.Slice) -> None:
        """Each bound left out, and moved by one where it is no constant."""
        parts = {"lower": node.lower, "upper": node.upper, "step": node.step}
        for name, part in parts.items():
            if part is None:
                continue
            self._slice(node, parts | {name: None})
            if not isinstance(part, ast.Constant):
                self._slice(node, parts | {name: ast.BinOp(part, ast.Add(), ast.Constant(1))})
        self.generic_visit(node)

    def _slice(self, node: ast.Slice, parts: dict[str, ast.expr | None]) -> None:
        lower, upper, step = (
            "" if p is None else ast.unparse(ast.fix_missing_locations(p)) for p in parts.values()
        )
        text = f"{lower}:{upper}" + (f":{step}" if step else "")
        self._add("slice", node, text)  # type: ignore[arg-type]


def mutants_of(path: Path, root: Path) -> list[Mutant]:
    """Every mutant of one file that can be compiled, in the order of the text; its path is from ``root``."""
    source = path.read_text()
    finder = _Finder(path.relative_to(root).as_posix(), source)
    finder.visit(ast.parse(source))
    found = sorted(finder.found, key=lambda m: (m.span, m.operator, m.after))
    return [mutant for mutant in found if _compiles(mutant, source.encode())]


def apply(mutant: Mutant, text: bytes) -> bytes:
    """The file's text with the fault."""
    first, last = mutant.span
    return text[:first] + mutant.after.encode() + text[last:]


def _compiles(mutant: Mutant, text: bytes) -> bool:
    try:
        compile(apply(mutant, text), mutant.path, "exec")
    except (SyntaxError, ValueError):
        return False
    return True
