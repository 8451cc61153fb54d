"""What stands where in a Jenkinsfile, by Groovy's grammar: JSON on stdout; exits 1 where it is no Groovy.

A call is [name, what is in its braces or null], an assignment [name, "="]; anything else [null, the grammar's word].
"""

import json
import sys

import tree_sitter_groovy
from tree_sitter import Language, Parser


def told(node):
    if node.type == "expression_statement":
        return told(node.named_children[0])
    if node.type == "assignment_expression":
        return [node.child_by_field_name("left").text.decode(), "="]
    if node.type in ("method_invocation", "juxt_function_call"):
        body = node.child_by_field_name("body")
        return [node.child_by_field_name("name").text.decode(), body and inside(body)]
    # `agent any` reads like a variable of a type.
    if node.type == "local_variable_declaration":
        return [node.child_by_field_name("type").text.decode(), None]
    return [None, node.type]


def inside(node):
    return [told(child) for child in node.named_children if not child.type.endswith("comment")]


with open(sys.argv[1], "rb") as file:
    root = Parser(Language(tree_sitter_groovy.language())).parse(file.read()).root_node
if root.has_error:
    sys.exit("no Groovy")
print(json.dumps(inside(root)))
