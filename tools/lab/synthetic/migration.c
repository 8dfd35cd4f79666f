// SPDX-License-Identifier: GPL-2.0
/*
 * Migration states: the kernel's own table says which arcs a request takes, this walks
 * them. While an arc is on its way the device is as inconvenient as it may be: what
 * either state allows it to start it starts all the time, and what only one of them lets
 * it take it takes not at all.
 */
#include <linux/delay.h>
#include <linux/file.h>

#include "synthetic.h"

const char *const vsyn_state_names[VSYN_STATES] = {
	[VFIO_DEVICE_STATE_ERROR] = "error",
	[VFIO_DEVICE_STATE_STOP] = "stop",
	[VFIO_DEVICE_STATE_RUNNING] = "running",
	[VFIO_DEVICE_STATE_STOP_COPY] = "stop-copy",
	[VFIO_DEVICE_STATE_RESUMING] = "resuming",
	[VFIO_DEVICE_STATE_RUNNING_P2P] = "running-p2p",
	[VFIO_DEVICE_STATE_PRE_COPY] = "pre-copy",
	[VFIO_DEVICE_STATE_PRE_COPY_P2P] = "pre-copy-p2p",
};

static void vsyn_set_state(struct vsyn_device *vsyn, enum vfio_device_mig_state state)
{
	lockdep_assert_held(&vsyn->state_mutex);
	WRITE_ONCE(vsyn->state, state);
	vsyn_traffic_settle(vsyn, state);
	/* Whatever the device starts from now on is judged by this state alone. */
	WRITE_ONCE(vsyn->arc_from, state);
	WRITE_ONCE(vsyn->arc_to, state);
}

static void vsyn_end_session(struct vsyn_session **session)
{
	if (*session)
		vsyn_session_end(*session);
	*session = NULL;
}

/* Whoever still has a data descriptor gets ENODEV from it. */
void vsyn_end_sessions(struct vsyn_device *vsyn)
{
	lockdep_assert_held(&vsyn->state_mutex);
	vsyn_end_session(&vsyn->saving);
	vsyn_end_session(&vsyn->resuming);
}

static void vsyn_reset_now(struct vsyn_device *vsyn)
{
	bool was_running = vsyn->state == VFIO_DEVICE_STATE_RUNNING;

	lockdep_assert_held(&vsyn->state_mutex);
	vsyn_end_sessions(vsyn);
	/* The device does nothing by itself between the parts. */
	mutex_lock(&vsyn->flow_mutex);
	vsyn_traffic_reset(vsyn);
	vsyn_content_reset(&vsyn->content, vsyn->settings->state_seed);
	vsyn_device_reset_registers(vsyn);
	mutex_unlock(&vsyn->flow_mutex);
	vsyn_count(vsyn, VSYN_RESETS);
	vsyn_set_state(vsyn, VFIO_DEVICE_STATE_RUNNING);
	if (!was_running)
		vsyn_referee_entered(vsyn, VFIO_DEVICE_STATE_RUNNING);
}

/*
 * A reset does not wait for an arc that is on its way: as with a PCI function, it is
 * done at once where nothing is, and else by who unlocks the state next.
 */
void vsyn_state_unlock(struct vsyn_device *vsyn)
{
again:
	spin_lock(&vsyn->reset_lock);
	if (vsyn->deferred_reset) {
		vsyn->deferred_reset = false;
		spin_unlock(&vsyn->reset_lock);
		vsyn_reset_now(vsyn);
		goto again;
	}
	mutex_unlock(&vsyn->state_mutex);
	spin_unlock(&vsyn->reset_lock);
}

void vsyn_reset(struct vsyn_device *vsyn)
{
	spin_lock(&vsyn->reset_lock);
	vsyn->deferred_reset = true;
	if (!mutex_trylock(&vsyn->state_mutex)) {
		spin_unlock(&vsyn->reset_lock);
		return;
	}
	spin_unlock(&vsyn->reset_lock);
	vsyn_state_unlock(vsyn);
}

void vsyn_release_hangs(struct vsyn_device *vsyn)
{
	atomic_inc(&vsyn->releases);
	wake_up_all(&vsyn->hang_wait);
}

static void vsyn_hang(struct vsyn_device *vsyn)
{
	int releases = atomic_read(&vsyn->releases);

	/*
	 * Uninterruptible, as in a driver that waits for its firmware, but by itself no hung
	 * task. Who waits for this one's state_mutex is one, after the kernel's time-out.
	 */
	wait_event_idle(vsyn->hang_wait,
			atomic_read(&vsyn->releases) != releases || READ_ONCE(vsyn->leaving));
}

/* What an arc does to the data descriptors. Where it fails they are as they were. */
static struct file *vsyn_arc_data(struct vsyn_device *vsyn, enum vfio_device_mig_state from,
				  enum vfio_device_mig_state to)
{
	bool saved = vsyn_state_saves(from), saves = vsyn_state_saves(to);
	struct vsyn_session **opened = NULL;
	struct file *file = NULL;
	int ret;

	if (from == VFIO_DEVICE_STATE_RESUMING) {
		ret = vsyn_session_verify(vsyn->resuming);
		if (ret)
			return ERR_PTR(ret);
		vsyn_end_session(&vsyn->resuming);
	}
	if (saved && !saves)
		vsyn_end_session(&vsyn->saving);
	if (!saved && saves)
		opened = &vsyn->saving;
	if (to == VFIO_DEVICE_STATE_RESUMING)
		opened = &vsyn->resuming;
	if (opened) {
		struct vsyn_session *session = vsyn_session_open(vsyn, saves, &file);

		if (IS_ERR(session))
			return ERR_CAST(session);
		*opened = session;
	}
	if (to == VFIO_DEVICE_STATE_STOP_COPY) {
		/* Its session ended when the device was closed and not reset. */
		if (!vsyn->saving)
			return ERR_PTR(-ENODEV);
		vsyn_session_finish(vsyn->saving);
	}
	return file;
}

/* Where a failing arc leaves the device. */
static void vsyn_fail_arc(struct vsyn_device *vsyn, enum vsyn_leaves leaves,
			  enum vfio_device_mig_state start, enum vfio_device_mig_state from)
{
	enum vfio_device_mig_state left = from;

	vsyn_count(vsyn, VSYN_ARCS_FAILED);
	if (leaves == VSYN_IN_ERROR) {
		vsyn_end_sessions(vsyn);
		left = VFIO_DEVICE_STATE_ERROR;
	} else if (leaves == VSYN_AT_START &&
		   (!vsyn_state_saves(start) || vsyn->saving) &&
		   (start != VFIO_DEVICE_STATE_RESUMING || vsyn->resuming)) {
		/* A state whose data descriptor was ended on the way can't be returned to. */
		if (!vsyn_state_saves(start))
			vsyn_end_session(&vsyn->saving);
		if (start != VFIO_DEVICE_STATE_RESUMING)
			vsyn_end_session(&vsyn->resuming);
		left = start;
	}
	vsyn_set_state(vsyn, left);
	if (left != from)
		vsyn_referee_entered(vsyn, left);
}

static struct file *vsyn_arc(struct vsyn_device *vsyn, enum vfio_device_mig_state start,
			     enum vfio_device_mig_state to)
{
	struct vsyn_settings *settings = vsyn->settings;
	enum vfio_device_mig_state from = vsyn->state;
	struct vsyn_rule fails = {}, *rule;
	bool hangs;
	struct file *file;
	u32 time;

	mutex_lock(&settings->lock);
	time = settings->arc_time[from][to];
	hangs = vsyn_rule_applies(settings->arc_hang, from, to);
	rule = vsyn_rule_applies(settings->arc_fail, from, to);
	if (rule)
		fails = *rule;
	mutex_unlock(&settings->lock);

	WRITE_ONCE(vsyn->arc_to, to);
	vsyn_traffic_allow(vsyn, from, to);
	/* A long wait must not look like a hung task. */
	if (time > 10 * USEC_PER_MSEC)
		schedule_timeout_idle(usecs_to_jiffies(time));
	else if (time)
		fsleep(time);
	if (hangs)
		vsyn_hang(vsyn);
	if (fails.error && fails.leaves != VSYN_THERE) {
		vsyn_fail_arc(vsyn, fails.leaves, start, from);
		return ERR_PTR(-fails.error);
	}

	/* What is saved last must not change any more while it is gathered. */
	if (to == VFIO_DEVICE_STATE_STOP_COPY)
		vsyn_traffic_settle(vsyn, to);
	file = vsyn_arc_data(vsyn, from, to);
	if (IS_ERR(file)) {
		vsyn_set_state(vsyn, from);
		return file;
	}
	vsyn_set_state(vsyn, to);
	vsyn_referee_entered(vsyn, to);
	vsyn_count(vsyn, VSYN_ARCS);
	if (fails.error) {
		vsyn_count(vsyn, VSYN_ARCS_FAILED);
		if (file)
			fput(file);
		return ERR_PTR(-fails.error);
	}
	return file;
}

static struct file *vsyn_set(struct vfio_device *vdev, enum vfio_device_mig_state new_state)
{
	struct vsyn_device *vsyn = to_vsyn(vdev);
	enum vfio_device_mig_state start, next;
	struct file *file = NULL;
	int ret;

	mutex_lock(&vsyn->state_mutex);
	start = vsyn->state;
	/*
	 * The uAPI: nobody can ask for ERROR, not even where it is, and only a reset leads
	 * out of it. The kernel's table would say so too, but warns when it is asked.
	 */
	if (new_state == VFIO_DEVICE_STATE_ERROR || start == VFIO_DEVICE_STATE_ERROR) {
		vsyn_count(vsyn, VSYN_ARCS_REFUSED);
		file = ERR_PTR(-EINVAL);
	}
	while (!IS_ERR(file) && new_state != vsyn->state) {
		ret = vfio_mig_get_next_state(vdev, vsyn->state, new_state, &next);
		if (ret) {
			vsyn_count(vsyn, VSYN_ARCS_REFUSED);
			file = ERR_PTR(ret);
			break;
		}
		file = vsyn_arc(vsyn, start, next);
		/* No path goes on behind an arc that opens a descriptor. */
		if (WARN_ON(!IS_ERR_OR_NULL(file) && new_state != vsyn->state)) {
			fput(file);
			file = ERR_PTR(-EINVAL);
			break;
		}
	}
	vsyn_state_unlock(vsyn);
	return file;
}

/* As after a change of the device's configuration: what was saved so far is void. */
void vsyn_reinit(struct vsyn_device *vsyn)
{
	mutex_lock(&vsyn->state_mutex);
	if (vsyn->saving && vsyn_state_is_pre_copy(vsyn->state))
		vsyn_session_reinit(vsyn->saving);
	vsyn_state_unlock(vsyn);
}

static int vsyn_get_state(struct vfio_device *vdev, enum vfio_device_mig_state *state)
{
	struct vsyn_device *vsyn = to_vsyn(vdev);

	mutex_lock(&vsyn->state_mutex);
	*state = vsyn->state;
	vsyn_state_unlock(vsyn);
	return 0;
}

static int vsyn_get_data_size(struct vfio_device *vdev, unsigned long *stop_copy_length)
{
	struct vsyn_device *vsyn = to_vsyn(vdev);

	mutex_lock(&vsyn->state_mutex);
	*stop_copy_length = vsyn_image_bytes_left(vsyn);
	vsyn_state_unlock(vsyn);
	return 0;
}

const struct vfio_migration_ops vsyn_migration_ops = {
	.migration_set_state = vsyn_set,
	.migration_get_state = vsyn_get_state,
	.migration_get_data_size = vsyn_get_data_size,
};
