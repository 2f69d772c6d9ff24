#compdef zsha
# Managed by Salt. Completion of zsha in zsh.
if (( CURRENT == 2 )); then
    compadd status status-conf history install uninstall migrate migrate-abort start stop check-config config-sample export-config import-config -h -v
else
    case $words[2] in
        check-config|import-config) _files ;;
        install) _arguments '-c:file:_files' ;;
        uninstall) compadd -- --yes-i-really-really-mean-it ;;
        config-sample) compadd FileConf CephConf ;;
        migrate) compadd {{ nodes }} --offline ;;
    esac
fi
