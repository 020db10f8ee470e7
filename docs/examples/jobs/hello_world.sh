# The smallest job: it says where it runs.
echo "Hello from job $HODEI_JOB_ID!"
echo "attempt $HODEI_ATTEMPT on $(uname -n), as user $(id -u), in $PWD"
