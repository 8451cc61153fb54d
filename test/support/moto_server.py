"""moto's server on a free port of 127.0.0.1, held closer to what AWS documents where moto differs.

Prints one line of JSON once it answers: its port and the keys of an administrator. Everything else is moto's own.
"""

import json
import logging
import os
import sys
import threading

os.environ["TZ"] = "UTC"

from moto.iam.access_control import CreateAccessKeyFailure, IAMUserAccessKey
from moto.iam.models import AccessKey, iam_backends
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from moto.secretsmanager.exceptions import (
    InvalidParameterException,
    ResourceExistsException,
)
from moto.secretsmanager.models import FakeSecret, SecretsManagerBackend
from werkzeug.serving import make_server

ACCOUNT = "123456789012"
LARGEST = 65_536
AWS_LABELS = ("AWSCURRENT", "AWSPREVIOUS")


def inactive_keys_are_refused():
    original = IAMUserAccessKey.__init__

    def init(self, *args, **kwargs):
        original(self, *args, **kwargs)
        user = self.backend.get_user(self._owner_user_name)
        for key in user.access_keys:
            if key.access_key_id == self._access_key_id and key.status != "Active":
                raise CreateAccessKeyFailure(reason="InvalidId")

    IAMUserAccessKey.__init__ = init


def creation_is_told_in_whole_seconds():
    original = AccessKey.__init__

    def init(self, *args, **kwargs):
        original(self, *args, **kwargs)
        self.create_date = self.create_date.replace(microsecond=0)

    AccessKey.__init__ = init


def a_token_stands_for_one_value():
    original = SecretsManagerBackend._check_with_existing_secrets_and_versions

    def check(self, name, token, string, binary, *args, **kwargs):
        secret = self.secrets.get(name)
        version = secret.versions.get(token) if secret is not None and token else None
        if version is not None:
            same = version.get("secret_string") == string and version.get("secret_binary") == binary
            if not same:
                raise ResourceExistsException(f"ClientRequestToken {token} is in use for a version of the secret.")
        return original(self, name, token, string, binary, *args, **kwargs)

    SecretsManagerBackend._check_with_existing_secrets_and_versions = check


def values_have_a_largest_size():
    for name in ("create_secret", "put_secret_value", "update_secret"):
        original = getattr(SecretsManagerBackend, name)

        def checked(self, *args, _original=original, **kwargs):
            for value in (*args, *kwargs.values()):
                if isinstance(value, (str, bytes)):
                    size = len(value.encode()) if isinstance(value, str) else len(value)
                    if size > LARGEST:
                        raise InvalidParameterException("The value is larger than 65536 bytes.")
            return _original(self, *args, **kwargs)

        setattr(SecretsManagerBackend, name, checked)


def a_moved_label_moves_what_is_current():
    """Else a plain read still gets the old value, and a plain write leaves AWSCURRENT on two versions."""
    original = SecretsManagerBackend.update_secret_version_stage

    def move(self, secret_id, version_stage, remove_from_version_id, move_to_version_id):
        answer = original(self, secret_id, version_stage, remove_from_version_id, move_to_version_id)
        if version_stage == "AWSCURRENT" and move_to_version_id:
            self.secrets[secret_id].set_default_version_id(move_to_version_id)
        return answer

    SecretsManagerBackend.update_secret_version_stage = move


def other_labels_stay_on_a_version_that_is_replaced():
    original = FakeSecret.reset_default_version

    def reset(self, secret_version, version_id):
        replaced = self.versions.get(self.default_version_id)
        kept = [label for label in replaced["version_stages"] if label not in AWS_LABELS] if replaced else []
        original(self, secret_version, version_id)
        if replaced:
            replaced["version_stages"] = [*kept, "AWSPREVIOUS"]

    FakeSecret.reset_default_version = reset


def administrator():
    iam = iam_backends[ACCOUNT]["aws"]
    everything = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}
    iam.create_user("us-east-1", "admin")
    iam.put_user_policy("admin", "everything", json.dumps(everything))
    return iam.create_access_key("admin")


def end_with_the_parent():
    """The parent holds the other end of stdin: nothing outlives a test that was killed."""
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    inactive_keys_are_refused()
    creation_is_told_in_whole_seconds()
    a_token_stands_for_one_value()
    values_have_a_largest_size()
    a_moved_label_moves_what_is_current()
    other_labels_stay_on_a_version_that_is_replaced()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server(
        "127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True, request_handler=MotoRequestHandler
    )
    os.environ["MOTO_PORT"] = str(server.port)
    key = administrator()
    ready = {"port": server.port, "accessKeyId": key.access_key_id, "secretAccessKey": key.secret_access_key}
    threading.Thread(target=end_with_the_parent, daemon=True).start()
    print(json.dumps(ready), flush=True)
    server.serve_forever()
