# Managed by Salt. Completion of zsha in bash.
_zsha() {
    local word=${COMP_WORDS[COMP_CWORD]}
    if [ "$COMP_CWORD" = 1 ]; then
        mapfile -t COMPREPLY < <(compgen -W "status status-conf history install uninstall migrate migrate-abort start stop check-config config-sample export-config import-config -h -v" -- "$word")
        return
    fi
    case ${COMP_WORDS[1]} in
        check-config | import-config) mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;
        install) mapfile -t COMPREPLY < <(compgen -f -W "-c" -- "$word") ;;
        uninstall) mapfile -t COMPREPLY < <(compgen -W "--yes-i-really-really-mean-it" -- "$word") ;;
        config-sample) mapfile -t COMPREPLY < <(compgen -W "FileConf CephConf" -- "$word") ;;
        migrate)
            mapfile -t COMPREPLY < <(compgen -W "{{ nodes }} --offline" -- "$word")
            ;;
    esac
}
complete -F _zsha zsha
