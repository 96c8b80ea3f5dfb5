/* The one public header, where it lies in the repository. */
#include "../../../../runtime/include/runnel/runnel.h"
