/*
 * A stand-in for libnvidia-ml.so.1, so that the real Python binding can be tested without a GPU.
 *
 * What it answers is read from the text file named by DS01_NVML_STUB at each nvmlInit, line by
 * line; without that file it says that no driver is loaded. "#" begins a comment.
 *
 *   driver 570.86.15              version of the driver
 *   cuda 12080                    newest CUDA, as NVML writes 12.8
 *   gpu UUID MIB NAME...          a card; the lines below speak of the last gpu or instance
 *   mig 0|1                       MIG mode; without it the card cannot be asked for one
 *   instance PLACE UUID G C MIB NAME...   a MIG instance: GPU and compute slices, memory
 *   util P / mem_used MIB / temp C / power MW / pid N
 *   fail FUNCTION CODE            that call fails; before the first gpu: for every device
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6,
       INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9 };
enum { MAX_DEVICES = 128, MAX_FAILS = 8, MAX_PIDS = 16 };

typedef struct { char function[80]; int code; } fail_t;
typedef struct {
    char uuid[80], name[96];
    unsigned long long mib, used_mib;
    int parent, place, mig, slices, compute, util, temp, power, pids, fails;
    unsigned int pid[MAX_PIDS];
    fail_t fail[MAX_FAILS];
} device_t;

typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned int gpu, memory; } utilization_t;
typedef struct { unsigned int pid; unsigned long long used; unsigned int gi, ci; } process_t;
typedef struct {
    unsigned int sm, copy, dec, enc, jpeg, ofa, slices, compute; unsigned long long mib;
} attributes_t;

static device_t everything, devices[MAX_DEVICES];
static int device_count, sessions, cuda;
static char driver[64];

static device_t *add_device(int parent)
{
    if (device_count == MAX_DEVICES) abort();
    device_t *d = &devices[device_count++];
    memset(d, 0, sizeof *d);
    d->parent = parent;
    d->mig = d->util = d->temp = d->power = -1;
    return d;
}

static int load(void)
{
    const char *path = getenv("DS01_NVML_STUB");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[512], word[80];
    int used, card = -1;
    device_t *d = &everything;
    if (!file) return DRIVER_NOT_LOADED;
    memset(&everything, 0, sizeof everything);
    device_count = cuda = 0;
    driver[0] = 0;
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, " %79s%n", word, &used) != 1 || word[0] == '#') continue;
        const char *rest = line + used;
        if (!strcmp(word, "driver")) sscanf(rest, " %63s", driver);
        else if (!strcmp(word, "cuda")) sscanf(rest, " %d", &cuda);
        else if (!strcmp(word, "gpu")) {
            card = device_count;
            d = add_device(-1);
            sscanf(rest, " %79s %llu %95[^\n]", d->uuid, &d->mib, d->name);
        } else if (!strcmp(word, "instance")) {
            d = add_device(card);
            sscanf(rest, " %d %79s %d %d %llu %95[^\n]", &d->place, d->uuid, &d->slices,
                   &d->compute, &d->mib, d->name);
        } else if (!strcmp(word, "mig")) sscanf(rest, " %d", &d->mig);
        else if (!strcmp(word, "util")) sscanf(rest, " %d", &d->util);
        else if (!strcmp(word, "mem_used")) sscanf(rest, " %llu", &d->used_mib);
        else if (!strcmp(word, "temp")) sscanf(rest, " %d", &d->temp);
        else if (!strcmp(word, "power")) sscanf(rest, " %d", &d->power);
        else if (!strcmp(word, "pid") && d->pids < MAX_PIDS) sscanf(rest, " %u", &d->pid[d->pids++]);
        else if (!strcmp(word, "fail") && d->fails < MAX_FAILS) {
            fail_t *f = &d->fail[d->fails++];
            sscanf(rest, " %79s %d", f->function, &f->code);
        } else {
            fprintf(stderr, "nvml stub: cannot read: %s", line);
            abort();
        }
    }
    fclose(file);
    return OK;
}

static int failing(const device_t *d, const char *function)
{
    for (int i = 0; i < d->fails; i++)
        if (!strcmp(d->fail[i].function, function)) return d->fail[i].code;
    return OK;
}

static int check(const device_t *d, const char *function)
{
    int code;
    if (!sessions) return UNINITIALIZED;
    if ((code = failing(&everything, function))) return code;
    return d ? failing(d, function) : OK;
}

#define CHECK(d) do { int code_ = check(d, __func__); if (code_) return code_; } while (0)
#define ANSWER(d, known, out, value) \
    do { CHECK(d); if (!(known)) return NOT_SUPPORTED; *(out) = (value); return OK; } while (0)

int stub_open_sessions(void) { return sessions; }

int nvmlInitWithFlags(unsigned int flags)
{
    int code = load();
    (void)flags;
    if (!code) code = failing(&everything, __func__);
    if (!code) sessions++;
    return code;
}

int nvmlShutdown(void)
{
    if (!sessions) return UNINITIALIZED;
    sessions--;
    return OK;
}

const char *nvmlErrorString(int code) { (void)code; return "stub error"; }

int nvmlSystemGetDriverVersion(char *out, unsigned int size)
{
    CHECK(NULL);
    snprintf(out, size, "%s", driver);
    return OK;
}

int nvmlSystemGetCudaDriverVersion_v2(int *out) { ANSWER(NULL, cuda, out, cuda); }

int nvmlDeviceGetCount_v2(unsigned int *out)
{
    CHECK(NULL);
    *out = 0;
    for (int i = 0; i < device_count; i++) *out += devices[i].parent < 0;
    return OK;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, device_t **out)
{
    for (int i = 0; i < device_count; i++)
        if (devices[i].parent < 0 && index-- == 0) {
            CHECK(&devices[i]);
            *out = &devices[i];
            return OK;
        }
    return INVALID_ARGUMENT;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, device_t **out)
{
    for (int i = 0; i < device_count; i++)
        if (!strcmp(devices[i].uuid, uuid)) {
            CHECK(&devices[i]);
            *out = &devices[i];
            return OK;
        }
    CHECK(NULL);
    return NOT_FOUND;
}

int nvmlDeviceGetUUID(device_t *d, char *out, unsigned int size)
{
    CHECK(d);
    snprintf(out, size, "%s", d->uuid);
    return OK;
}

int nvmlDeviceGetName(device_t *d, char *out, unsigned int size)
{
    CHECK(d);
    snprintf(out, size, "%s", d->name);
    return OK;
}

int nvmlDeviceGetMemoryInfo(device_t *d, memory_t *out)
{
    CHECK(d);
    out->total = d->mib << 20;
    out->used = d->used_mib << 20;
    out->free = out->total - out->used;
    return OK;
}

int nvmlDeviceGetMigMode(device_t *d, unsigned int *current, unsigned int *pending)
{
    CHECK(d);
    if (d->mig < 0) return NOT_SUPPORTED;
    *current = *pending = (unsigned int)d->mig;
    return OK;
}

int nvmlDeviceGetMaxMigDeviceCount(device_t *d, unsigned int *out) { ANSWER(d, 1, out, 7); }

int nvmlDeviceGetMigDeviceHandleByIndex(device_t *d, unsigned int place, device_t **out)
{
    CHECK(d);
    for (int i = 0; i < device_count; i++)
        if (devices[i].parent == d - devices && devices[i].place == (int)place) {
            *out = &devices[i];
            return OK;
        }
    return NOT_FOUND;
}

int nvmlDeviceGetAttributes_v2(device_t *d, attributes_t *out)
{
    CHECK(d);
    memset(out, 0, sizeof *out);
    out->slices = (unsigned int)d->slices;
    out->compute = (unsigned int)d->compute;
    out->mib = d->mib;
    return OK;
}

int nvmlDeviceGetUtilizationRates(device_t *d, utilization_t *out)
{
    CHECK(d);
    if (d->util < 0) return NOT_SUPPORTED;
    out->gpu = (unsigned int)d->util;
    out->memory = 0;
    return OK;
}

int nvmlDeviceGetTemperature(device_t *d, int sensor, unsigned int *out)
{
    (void)sensor;
    ANSWER(d, d->temp >= 0, out, (unsigned int)d->temp);
}

int nvmlDeviceGetPowerUsage(device_t *d, unsigned int *out)
{
    ANSWER(d, d->power >= 0, out, (unsigned int)d->power);
}

int nvmlDeviceGetComputeRunningProcesses_v3(device_t *d, unsigned int *count, process_t *out)
{
    CHECK(d);
    unsigned int room = *count;
    *count = (unsigned int)d->pids;
    if (!d->pids) return OK;
    if (!out || room < *count) return INSUFFICIENT_SIZE;
    for (int i = 0; i < d->pids; i++) out[i] = (process_t){ .pid = d->pid[i] };
    return OK;
}
