"""The server under many clients of the real `openai` package: nothing is lost or mixed up.

Every answer must be what it was alone, half of them drawn at a temperature with a seed. Some clients stream, some leave in the middle of an
answer. At the end no place is taken, memory is what it was, and wrong requests get the errors that the package knows.
"""

import argparse
import asyncio
import random
import urllib.request

import openai

PROMPTS = 24


def memory(pid):
    """Resident bytes of a process, or 0 where that cannot be told."""
    try:
        with open(f"/proc/{pid}/statm") as file:
            return 4096 * int(file.read().split()[1])
    except OSError:
        return 0


def metrics(url):
    text = urllib.request.urlopen(url.removesuffix("/v1") + "/metrics").read().decode()
    rows = [line.split() for line in text.splitlines() if not line.startswith("#")]
    return {name.removeprefix("mdlm_"): int(value) for name, value in rows}


def asked(model, number):
    return {
        "model": model,
        "messages": [{"role": "user", "content": "the cat sat " * (number % 7 + 1) + str(number)}],
        "max_tokens": 8 + 8 * (number % 4),
        "temperature": number % 2 * 0.8,
        "seed": number,
    }


async def streamed(client, request):
    text, reason = "", None
    async for part in await client.chat.completions.create(stream=True, **request):
        choice = part.choices[0]
        text += choice.delta.content or ""
        reason = choice.finish_reason or reason
    return text, reason


async def whole(client, request):
    answer = await client.chat.completions.create(**request)
    return answer.choices[0].message.content, answer.choices[0].finish_reason


async def leave(client, request):
    """Goes away after the first part."""
    parts = await client.chat.completions.create(stream=True, **request, extra_body={"denoising": True})
    async for part in parts:
        assert part.denoising["masked"] >= 0
        break
    await parts.close()


async def keep_asking(client, model, expected, until, random, counts):
    now = asyncio.get_running_loop().time
    while now() < until:
        number, kind = random.randrange(PROMPTS), random.random()
        request = asked(model, number)
        if kind < 0.1:
            await leave(client, request)
            counts["left"] += 1
            continue
        got = await (streamed if kind < 0.4 else whole)(client, request)
        assert got == expected[number], f"prompt {number}: {got} instead of {expected[number]}"
        counts["answered"] += 1


async def refusals(client, model):
    def error(status, **request):
        return client.chat.completions.create(**{**asked(model, 0), **request}), status

    for request, status in [
        error(404, model="another"),
        error(400, messages=[]),
        error(400, temperature=-1),
        error(400, max_tokens=0),
        error(400, n=3),
        error(400, messages=[{"role": "user", "content": "the cat " * 5000}]),
        error(413, messages=[{"role": "user", "content": "x" * 3_000_000}]),
    ]:
        try:
            await request
        except openai.APIStatusError as problem:
            assert problem.status_code == status, problem
            assert problem.body["message"], problem
        else:
            raise AssertionError(f"accepted where {status} was expected")


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--pid", type=int, required=True)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    args = parser.parse_args()
    client = openai.AsyncOpenAI(base_url=args.url, api_key="none", max_retries=0, timeout=120)
    model = (await client.models.list()).data[0].id
    expected = [await whole(client, asked(model, number)) for number in range(PROMPTS)]
    assert len(set(expected)) > PROMPTS // 2, "the prompts have too few answers to tell them apart"
    await refusals(client, model)

    loop, counts, seen = asyncio.get_running_loop(), {"answered": 0, "left": 0}, []
    until = loop.time() + args.seconds
    before = metrics(args.url)
    clients = [
        keep_asking(client, model, expected, until, random.Random(number), counts)
        for number in range(args.clients)
    ]

    async def watch():
        while loop.time() < until:
            await asyncio.sleep(args.seconds / 20)
            seen.append(memory(args.pid))

    await asyncio.gather(watch(), *clients)
    after = metrics(args.url)
    for _ in range(100):
        if metrics(args.url)["active"] == 0:
            break
        await asyncio.sleep(0.1)
    assert metrics(args.url)["active"] == 0, "a place is still taken"
    assert after["rejected_total"] == 0
    calls, batched = [after[name] - before[name] for name in ["network_calls_total", "batched_total"]]
    print(f"{args.clients} clients for {args.seconds:.0f} s: {counts['answered']} answers, all as alone; {counts['left']} left")
    print(f"{calls} network calls for {batched / calls:.2f} answers each; {after['cancelled_total']} cancelled")
    half = len(seen) // 2
    early, late = max(seen[:half]), max(seen[half:])
    print(f"memory: {early / 2**20:.0f} MiB at most in the first half, {late / 2**20:.0f} in the second")
    assert counts["answered"] >= args.clients and counts["left"] > 0 and after["cancelled_total"] > 0
    assert late <= 1.1 * early + 2**24


asyncio.run(main())
