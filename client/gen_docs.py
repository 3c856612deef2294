#!/usr/bin/env python3
"""Writes man pages and completions from the built commands themselves: they cannot disagree.

    gen_docs.py QUOIT scd TEMPLATE          quoit.1.scd: the template with @...@ filled in
    gen_docs.py QUOIT bash|zsh|fish         a completion script
    gen_docs.py QUOITD scd-daemon TEMPLATE  quoitd.1.scd, with the options that --help prints

`quoit __tables` prints its verbs and options as JSON. Of quoitd the help text is read.
"""

import json
import os
import re
import subprocess
import sys

CHOICES = re.compile(r"^[a-z0-9]+(\|[a-z0-9]+)+$")


def load(quoit):
    tables = json.loads(subprocess.run([quoit, "__tables"], check=True, capture_output=True).stdout)
    tables["by_name"] = {o["name"]: o for o in tables["options"]}
    tables["common"] = [o for o in tables["options"]
                        if "env" in o or o["name"] in ("help", "version")]
    return tables


def choices(option, verb=None):
    """The words that an option takes, if they can be listed."""
    if option["name"] == "output":
        return (verb.get("outputs") if verb else "raw|json|jsonl|table").split("|")
    arg = option.get("arg", "")
    return arg.split("|") if CHOICES.match(arg) else []


def words(tables):
    """What may follow `quoit`: verbs of one word, and the first words of those of two."""
    return list(dict.fromkeys(v["name"].split()[0] for v in tables["verbs"]))


def groups(tables):
    """First words of verbs of two -> these verbs."""
    out = {}
    for verb in tables["verbs"]:
        if " " in verb["name"]:
            out.setdefault(verb["name"].split()[0], []).append(verb)
    return out


def verb_options(tables, verb):
    return [tables["by_name"][n] for n in verb["options"]] + tables["common"]


# ---- man ----


def scd(text):
    """Escapes what scdoc would take for markup."""
    return re.sub(r"([\\*_])", r"\\\1", text)


def scd_literal(text):
    return "```\n" + text.rstrip("\n") + "\n```"


def scd_option(option):
    names = ([f"*-{option['letter']}*"] if "letter" in option else []) + [f"*--{option['name']}*"]
    arg = f" {scd(option['arg'])}" if "arg" in option else ""
    env = f" Environment: _{scd(option['env'])}_." if "env" in option else ""
    help_text = option["help"][0].upper() + option["help"][1:]
    return f"{', '.join(names)}{arg}\n\t{scd(help_text)}.{env}\n"


def scd_verb(tables, verb):
    exits = " ".join(verb["exits"].split())
    out = [f"## quoit {verb['name']} {scd(verb['usage'])}".rstrip(), "", scd(verb["summary"]) + " "
           + scd(" ".join(verb["about"].split())), "", scd_literal(verb["examples"]), ""]
    out += [scd_option(tables["by_name"][n]) for n in verb["options"]]
    if "outputs" in verb:
        out += [f"Formats of *-o*: {scd(verb['outputs'].replace('|', ', '))}.", ""]
    return "\n".join(out + [f"Exit: {scd(exits)}.", ""])


def man(tables, template):
    with open(template, encoding="utf-8") as f:
        text = f.read()
    fill = {
        "VERSION": tables["version"],
        "VERBS": "\n".join(scd_verb(tables, v) for v in tables["verbs"]),
        "COMMON": "\n".join(scd_option(o) for o in tables["common"]),
        "EXIT": scd_literal(tables["exit_codes"]),
    }
    return re.sub(r"@([A-Z]+)@", lambda m: fill[m.group(1)], text)


OPTION = re.compile(r"^ +(?:-., )?--([a-z-]+)(?:=(\S+))? {2,}(\S.*)$")
GROUP = re.compile(r"^ (\S.*)$")


def daemon_options(quoitd):
    """The options of `quoitd --help` under their headings, one per line when its margin is wide."""
    env = {**os.environ, "ARGP_HELP_FMT": "rmargin=1000,opt-doc-col=60", "LC_ALL": "C"}
    help_text = subprocess.run([quoitd, "--help"], check=True, capture_output=True, env=env)
    text = help_text.stdout.decode()
    out = []
    for line in text.split("Examples:")[0].splitlines():
        option, group = OPTION.match(line), GROUP.match(line)
        if option:
            name, arg, help_text = option.groups()
            arg = f" {scd(arg)}" if arg else ""
            out.append(f"*--{name}*{arg}\n\t{scd(help_text)}.\n")
        elif group:
            out.append(f"## {scd(group.group(1))}\n")
    if len(out) < 10:
        sys.exit("gen_docs: cannot read the options of quoitd --help")
    return "\n".join(out)


def man_daemon(quoitd, template):
    version = subprocess.run([quoitd, "--version"], check=True, capture_output=True).stdout.decode()
    with open(template, encoding="utf-8") as f:
        text = f.read()
    fill = {"VERSION": version.split()[1], "OPTIONS": daemon_options(quoitd)}
    return re.sub(r"@([A-Z]+)@", lambda m: fill[m.group(1)], text)


# ---- completions ----


def flags(options):
    return ([f"--{o['name']}" for o in options]
            + [f"-{o['letter']}" for o in options if "letter" in o])


def bash(tables):
    verbs = " ".join(words(tables) + ["help"])
    pairs = "|".join(groups(tables))
    valued = "|".join(f for o in tables["options"] if "arg" in o for f in flags([o]))
    out = ["# bash completion of quoit, generated from its tables", "_quoit() {",
           '    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} verb= i',
           "    for ((i = 1; i < COMP_CWORD; i++)); do",
           "        case ${COMP_WORDS[i]} in",
           f"        {valued}) ((i++)) ;;",
           "        -*) ;;",
           "        *) verb=${COMP_WORDS[i]}",
           f"            case $verb in {pairs}) ((i + 1 < COMP_CWORD)) &&",
           '                verb+=" ${COMP_WORDS[i+1]}" ;; esac',
           "            break ;;",
           "        esac", "    done", "    case $verb:$prev in"]
    for verb in tables["verbs"]:
        for option in verb_options(tables, verb):
            taken = choices(option, verb)
            if taken:
                names = "|".join(f"'{verb['name']}:{f}'" for f in flags([option]))
                out.append(f"    {names})"
                           f" COMPREPLY=($(compgen -W '{' '.join(taken)}' -- \"$cur\"));"
                           " return ;;")
    out += ["    esac", "    if [[ $cur == @* ]]; then",
            "        COMPREPLY=($(compgen -P @ -f -- \"${cur#@}\")); return", "    fi",
            "    case $verb in",
            f"    '') COMPREPLY=($(compgen -W '{verbs} {' '.join(flags(tables['common']))}'"
            " -- \"$cur\")) ;;"]
    for verb in tables["verbs"]:
        taken = " ".join(flags(verb_options(tables, verb)))
        out.append(f"    '{verb['name']}') COMPREPLY=($(compgen -W '{taken}' -- \"$cur\")) ;;")
    for word, members in groups(tables).items():
        taken = " ".join(v["name"].split()[1] for v in members)
        out.append(f"    {word}) COMPREPLY=($(compgen -W '{taken}' -- \"$cur\")) ;;")
    out.append(f"    help)"
               f" COMPREPLY=($(compgen -W '{verbs} exit-codes environment' -- \"$cur\")) ;;")
    return "\n".join(out + ["    esac", "}", "complete -o default -F _quoit quoit", ""])


def quote(text):
    return "'" + text.replace("'", "'\\''") + "'"


def zsh_spec(option, verb):
    help_text = option["help"].replace("[", "(").replace("]", ")").replace(":", " ")
    taken = choices(option, verb)
    value = f":{option['name']}:({' '.join(taken)})" if taken else f":{option['name']}: "
    value = value if "arg" in option else ""
    names = flags([option])
    return [quote(f"{n}[{help_text}]{value}") for n in names]


def zsh(tables):
    out = ["#compdef quoit", "# zsh completion of quoit, generated from its tables", "_quoit() {",
           "  local curcontext=$curcontext state line",
           "  local -a verbs=("]
    out += ["    " + quote(f"{v['name']}:{v['summary']}") for v in tables["verbs"]
            if " " not in v["name"]]
    out += [f"    {quote(word + ':' + members[0]['summary'])}"
            for word, members in groups(tables).items()]
    out += ["    'help:Explain a verb, exit-codes or environment.'", "  )", "  _arguments -C \\"]
    for option in tables["common"]:
        out += [f"    {spec} \\" for spec in zsh_spec(option, None)]
    out += ["    '1:verb:->verb' '*::argument:->rest'", "  case $state in",
            "  verb) _describe verb verbs ;;", "  rest)", "    case $line[1] in"]
    for word, members in groups(tables).items():
        specs = dict.fromkeys(s for v in members for o in verb_options(tables, v)
                              for s in zsh_spec(o, v))
        taken = " ".join(v["name"].split()[1] for v in members)
        out.append(f"    {word}) _arguments {' '.join(specs)} '1:verb:({taken})'"
                   " '*:argument: ' ;;")
    for verb in tables["verbs"]:
        if " " in verb["name"]:
            continue
        specs = [s for o in verb_options(tables, verb) for s in zsh_spec(o, verb)]
        out.append(f"    {verb['name']}) _arguments {' '.join(specs)} '*:argument:_files' ;;")
    out += [f"    help) _values topic {' '.join(words(tables))}"
            " exit-codes environment ;;"]
    return "\n".join(out + ["    esac", "  esac", "}", '_quoit "$@"', ""])


def fish(tables):
    verbs = " ".join(words(tables))
    none = f"not __fish_seen_subcommand_from {verbs} help"
    out = ["# fish completion of quoit, generated from its tables", "complete -c quoit -f"]
    for word in words(tables):
        summary = next(v["summary"] for v in tables["verbs"] if v["name"].split()[0] == word)
        out.append(f"complete -c quoit -n {quote(none)} -a {word} -d {quote(summary)}")
    for word, members in groups(tables).items():
        seconds = " ".join(v["name"].split()[1] for v in members)
        out.append(f"complete -c quoit -n '__fish_seen_subcommand_from {word};"
                   f" and not __fish_seen_subcommand_from {seconds}' -a '{seconds}'")
    out.append(f"complete -c quoit -n {quote(none)} -a help -d 'Explain a verb'")
    out.append(f"complete -c quoit -n '__fish_seen_subcommand_from help' -a '{verbs} exit-codes"
               " environment'")

    def option_line(option, condition, verb):
        line = f"complete -c quoit{condition} -l {option['name']} -d {quote(option['help'])}"
        line += f" -s {option['letter']}" if "letter" in option else ""
        taken = choices(option, verb)
        line += f" -x -a {quote(' '.join(taken))}" if taken else " -x" if "arg" in option else ""
        return line

    out += [option_line(o, "", None) for o in tables["common"]]
    for verb in tables["verbs"]:
        seen = "; and ".join(f"__fish_seen_subcommand_from {w}" for w in verb["name"].split())
        condition = f" -n '{seen}'"
        out += [option_line(tables["by_name"][n], condition, verb) for n in verb["options"]]
    return "\n".join(out + [""])


def main():
    program, what = sys.argv[1:3]
    if what == "scd-daemon":
        sys.stdout.write(man_daemon(program, sys.argv[3]))
        return
    tables = load(program)
    if what == "scd":
        sys.stdout.write(man(tables, sys.argv[3]))
    else:
        sys.stdout.write({"bash": bash, "zsh": zsh, "fish": fish}[what](tables))


if __name__ == "__main__":
    main()
