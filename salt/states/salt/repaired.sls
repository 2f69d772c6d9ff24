# All that can be applied to a node whose Salt can't load this project's modules, as after an upgrade of Salt: what they
# need is installed, and the run fails, for all else is still to be applied.
include:
  - states.salt.packages

salt_modules_repaired:
  test.fail_without_changes:
    - name: >-
        Salt's own Python missed packages that the modules of this project need, so nothing else was applied;
{%- if opts.test %}
        they would be installed, and salt-minion would begin anew: apply the states, and then once more
{%- else %}
        they are installed now, and salt-minion begins anew: apply the states again
{%- endif %}
    - require:
      - cmd: salt_python_packages
