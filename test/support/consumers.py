"""Consumers as teams have them: each reads a key again and again, uses what it read, and counts what was refused.

One argument: a JSON object with `kind` and what that kind reads. Prints `ready` after its first use, and one line of
JSON (uses, keys, failures) when its stdin is closed.
"""

import json
import os
import subprocess
import sys
import threading
import time

import boto3
import hvac
from aws_secretsmanager_caching import SecretCache, SecretCacheConfig
from botocore.config import Config

ONCE = Config(retries={"total_max_attempts": 1})


def sts_with(key):
    """Uses it on a connection of its own: whose key it is."""
    keys = {"aws_access_key_id": key["accessKeyId"], "aws_secret_access_key": key["secretAccessKey"]}
    boto3.client("sts", config=ONCE, **keys).get_caller_identity()
    return key["accessKeyId"]


def by_boto3(given):
    manager = boto3.client("secretsmanager", config=ONCE)
    return lambda: sts_with(json.loads(manager.get_secret_value(SecretId=given["secret"])["SecretString"]))


def by_caching_client(given):
    config = SecretCacheConfig(secret_refresh_interval=given["cache"])
    cache = SecretCache(config=config, client=boto3.client("secretsmanager", config=ONCE))
    return lambda: sts_with(json.loads(cache.get_secret_string(given["secret"])))


def by_aws_cli(given):
    """The program itself for each call, as a shell script would."""

    def aws(*args, **key):
        program = os.path.join(os.path.dirname(sys.executable), "aws")
        env = {**os.environ, **key, "AWS_MAX_ATTEMPTS": "1"}
        done = subprocess.run([sys.executable, program, *args], env=env, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip())
        return done.stdout

    def use():
        key = json.loads(
            aws("secretsmanager", "get-secret-value", "--secret-id", given["secret"], "--query", "SecretString", "--output", "text")
        )
        aws(
            "sts",
            "get-caller-identity",
            AWS_ACCESS_KEY_ID=key["accessKeyId"],
            AWS_SECRET_ACCESS_KEY=key["secretAccessKey"],
        )
        return key["accessKeyId"]

    return use


def by_rendered_file(given):
    def use():
        with open(given["file"]) as file:
            return sts_with(json.load(file))

    return use


def by_hvac(given):
    client = hvac.Client()

    def use():
        answer = client.secrets.kv.v2.read_secret_version(path=given["path"], raise_on_deleted_version=True)
        return sts_with(answer["data"]["data"])

    return use


def by_hvac_login(given):
    client = hvac.Client()

    def use():
        answer = client.secrets.kv.v2.read_secret_version(path=given["path"], raise_on_deleted_version=True)
        value = answer["data"]["data"]
        hvac.Client().auth.approle.login(role_id=value["roleId"], secret_id=value["secretId"])
        return value["secretId"]

    return use


KINDS = {
    "boto3": by_boto3,
    "caching client": by_caching_client,
    "AWS CLI": by_aws_cli,
    "rendered file": by_rendered_file,
    "hvac": by_hvac,
    "hvac, logging in": by_hvac_login,
}


def main():
    given = json.loads(sys.argv[1])
    use = KINDS[given["kind"]](given)
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.buffer.read(), ended.set()), daemon=True).start()
    uses, keys, failures = 0, [], []
    while not ended.is_set():
        try:
            key = use()
            if key not in keys:
                keys.append(key)
        except Exception as error:
            failures.append(f"{time.strftime('%H:%M:%S')} {type(error).__name__}: {error}"[:300])
        uses += 1
        if uses == 1:
            print("ready", flush=True)
        ended.wait(given["every"])
    print(json.dumps({"uses": uses, "keys": len(keys), "failures": failures}), flush=True)


main()
