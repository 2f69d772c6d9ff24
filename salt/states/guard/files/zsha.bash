# Managed by Salt. Completion of zsha in bash.
_zsha() {
    local word=${COMP_WORDS[COMP_CWORD]}
    if [ "$COMP_CWORD" = 1 ]; then
        mapfile -t COMPREPLY < <(compgen -W "status status-conf migrate migrate-abort start stop check-config config-sample export-config import-config -h -v" -- "$word")
        return
    fi
    case ${COMP_WORDS[1]} in
        check-config | import-config) mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;
        config-sample) mapfile -t COMPREPLY < <(compgen -W "FileConf CephConf" -- "$word") ;;
        migrate)
            if [[ $word == -* ]]; then
                mapfile -t COMPREPLY < <(compgen -W "--offline" -- "$word")
            else
                mapfile -t COMPREPLY < <(compgen -A hostname -- "$word")
            fi
            ;;
    esac
}
complete -F _zsha zsha
