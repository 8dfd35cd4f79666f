// SPDX-License-Identifier: GPL-2.0
/*
 * What a device does by itself: writes to its peers, writes to guest memory, rewrites of
 * its own state. One thread of each open device hands out what is due since it last
 * looked, in batches under flow_mutex.
 *
 * The judge of a peer write is the receiver, in vsyn_arrive(): it knows nothing of what
 * the sender was allowed.
 */
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/math64.h>
#include <linux/mm.h>
#include <linux/random.h>
#include <linux/slab.h>

#include "synthetic.h"

#define VSYN_FLIGHT_WRITES	256	/* a power of 2 */
#define VSYN_BATCH		128
#define VSYN_CATCH_UP_NS	(100 * NSEC_PER_MSEC)
#define VSYN_TICK_US		500

/* A peer write on its way. */
struct vsyn_write {
	struct vsyn_device *target;	/* with a reference */
	u64 from, incarnation, number;
	u64 arrives;			/* when, in nanoseconds */
};

struct vsyn_flight {
	struct vsyn_write writes[VSYN_FLIGHT_WRITES];
	unsigned int head, tail;
};

/* Receiving. */

static void vsyn_take_write(struct vsyn_device *vsyn, const struct vsyn_write *write)
{
	struct vsyn_link *link = &vsyn->links[write->from];

	lockdep_assert_held(&vsyn->rx_lock);
	vsyn_count(vsyn, VSYN_PEER_RECEIVED);
	if (!link->known || link->incarnation != write->incarnation) {
		vsyn_count(vsyn, VSYN_PEER_NEW_LINKS);
		link->known = true;
		link->incarnation = write->incarnation;
	} else if (write->number <= link->last) {
		vsyn_count(vsyn, VSYN_PEER_DOUBLED);
		return;
	} else {
		atomic64_add(write->number - link->last - 1, &vsyn->counters[VSYN_PEER_LOST]);
	}
	link->last = write->number;
	link->received++;
	if (vsyn->control & VSYN_ACTIVE_INTERRUPTS)
		vsyn_device_interrupt(vsyn);
}

static void vsyn_arrive(const struct vsyn_write *write)
{
	struct vsyn_device *vsyn = write->target;

	spin_lock(&vsyn->rx_lock);
	if (!vsyn->open)
		vsyn_count(vsyn, VSYN_ARRIVED_CLOSED);
	else if (vsyn_state_accepts(vsyn->rx_state))
		vsyn_take_write(vsyn, write);
	else if (vsyn->rx_state == VFIO_DEVICE_STATE_STOP)
		vsyn_count(vsyn, VSYN_ARRIVED_STOP);
	else if (vsyn->rx_state == VFIO_DEVICE_STATE_STOP_COPY)
		vsyn_count(vsyn, VSYN_ARRIVED_STOP_COPY);
	else if (vsyn->rx_state == VFIO_DEVICE_STATE_RESUMING)
		vsyn_count(vsyn, VSYN_ARRIVED_RESUMING);
	else
		vsyn_count(vsyn, VSYN_ARRIVED_ERROR);
	spin_unlock(&vsyn->rx_lock);
}

/* Sending. */

/* Lets what is due arrive, or with U64_MAX all. Returns when the next is due, or U64_MAX. */
static u64 vsyn_land(struct vsyn_device *vsyn, u64 now)
{
	struct vsyn_flight *flight = vsyn->flight;

	lockdep_assert_held(&vsyn->flow_mutex);
	while (flight->tail != flight->head) {
		struct vsyn_write *write = &flight->writes[flight->tail % VSYN_FLIGHT_WRITES];

		if (write->arrives > now)
			return write->arrives;
		vsyn_arrive(write);
		put_device(&write->target->vdev.device);
		flight->tail++;
	}
	return U64_MAX;
}

static void vsyn_launch(struct vsyn_device *vsyn, struct vsyn_device *target, u64 number, u64 now)
{
	struct vsyn_flight *flight = vsyn->flight;

	if (flight->head - flight->tail == VSYN_FLIGHT_WRITES)
		vsyn_land(vsyn, flight->writes[flight->tail % VSYN_FLIGHT_WRITES].arrives);
	get_device(&target->vdev.device);
	flight->writes[flight->head++ % VSYN_FLIGHT_WRITES] = (struct vsyn_write){
		.target = target,
		.from = vsyn->settings->id,
		.incarnation = vsyn->incarnation,
		.number = number,
		.arrives = now + vsyn_get(vsyn->settings, peer_latency) * NSEC_PER_USEC,
	};
}

static void vsyn_send(struct vsyn_device *vsyn, struct vsyn_device *target, u64 now)
{
	u64 misbehave = vsyn_get(vsyn->settings, misbehave);
	u64 number = ++vsyn->sent[target->settings->id];
	bool every_64th = !(++vsyn->peer_writes % 64);

	vsyn_count(vsyn, VSYN_PEER_SENT);
	if (!vsyn_state_initiates(READ_ONCE(vsyn->arc_from)) &&
	    !vsyn_state_initiates(READ_ONCE(vsyn->arc_to)))
		vsyn_count(vsyn, VSYN_STARTED_QUIESCED);
	if (every_64th && (misbehave & VSYN_LOSE))
		return;
	vsyn_launch(vsyn, target, number, now);
	if (every_64th && (misbehave & VSYN_DOUBLE))
		vsyn_launch(vsyn, target, number, now);
}

/* How much of something that is to happen at a rate is due, and not too much of it at once. */
static u64 vsyn_due(struct vsyn_pacer *pacer, u64 rate, u64 now, u64 most)
{
	u64 due;

	if (!rate || !pacer->since || now < pacer->since) {
		pacer->since = now;
		return 0;
	}
	/* What could not be done for so long is forgotten. */
	if (now - pacer->since > VSYN_CATCH_UP_NS)
		pacer->since = now - VSYN_CATCH_UP_NS;
	due = div_u64((now - pacer->since) * rate, NSEC_PER_SEC);
	due = min(due, most);
	pacer->since += div64_u64(due * NSEC_PER_SEC, rate);
	return due;
}

static void vsyn_send_due(struct vsyn_device *vsyn, u64 now)
{
	struct vsyn_settings *settings = vsyn->settings;
	struct vsyn_device *target;
	unsigned int i;
	u64 due;

	mutex_lock(&settings->lock);
	down_read(&vsyn_registry);
	for (i = 0; i < settings->nr_peers; i++) {
		due = vsyn_due(&vsyn->peer_pace[i], settings->peers[i].rate, now, VSYN_BATCH);
		list_for_each_entry(target, &vsyn_devices, registered) {
			if (strcmp(target->name, settings->peers[i].name))
				continue;
			/* Nothing is sent to a device that nobody has. */
			while (due-- && READ_ONCE(target->open))
				vsyn_send(vsyn, target, now);
			break;
		}
	}
	up_read(&vsyn_registry);
	mutex_unlock(&settings->lock);
}

/* DMA to guest memory. */

/* Which page, of all in the ranges, the next write goes to. */
static u64 vsyn_dma_page(struct vsyn_device *vsyn, u64 pages)
{
	u64 n = vsyn->dma_position, hash = vsyn_mix(vsyn->dma_seed + n);

	switch (vsyn_get(vsyn->settings, dma_pattern)) {
	case VSYN_RANDOM:
		return hash % pages;
	case VSYN_HOT:
		return (hash >> 8) % (hash % 10 ? max(pages / 10, 1ULL) : pages);
	default:
		return n % pages;
	}
}

static bool vsyn_dma_next(struct vsyn_device *vsyn)
{
	struct vsyn_settings *settings = vsyn->settings;
	u64 pages = 0, page, iova;
	unsigned int i;
	bool hide;
	int ret;

	mutex_lock(&settings->lock);
	for (i = 0; i < settings->nr_dma_ranges; i++)
		pages += settings->dma_ranges[i].length >> VSYN_PAGE_SHIFT;
	if (!pages) {
		mutex_unlock(&settings->lock);
		return false;
	}
	page = vsyn_dma_page(vsyn, pages);
	for (i = 0; page >= settings->dma_ranges[i].length >> VSYN_PAGE_SHIFT; i++)
		page -= settings->dma_ranges[i].length >> VSYN_PAGE_SHIFT;
	iova = settings->dma_ranges[i].start + (page << VSYN_PAGE_SHIFT);
	mutex_unlock(&settings->lock);

	vsyn_fill_page(vsyn_mix(vsyn->dma_seed ^ vsyn->dma_position), vsyn->bounce);
	hide = (vsyn_get(settings, misbehave) & VSYN_UNLOGGED) && vsyn->dma_position % 64 == 63;
	vsyn->dma_position++;
	ret = settings->iommu == VSYN_IOMMU_OWN ?
	      vsyn_iommu_write(vsyn, iova, vsyn->bounce, hide) :
	      vfio_dma_rw(&vsyn->vdev, iova, vsyn->bounce, VSYN_PAGE_SIZE, true);
	if (ret) {
		vsyn_count(vsyn, VSYN_DMA_FAULTS);
		return true;
	}
	/* The log comes after the write: who reads it in between finds it the next time. */
	vsyn_log_record(vsyn, iova, hide);
	vsyn_count(vsyn, VSYN_DMA_PAGES);
	if (!vsyn_state_accepts(READ_ONCE(vsyn->arc_from)) &&
	    !vsyn_state_accepts(READ_ONCE(vsyn->arc_to)))
		vsyn_count(vsyn, VSYN_DMA_STOPPED);
	return true;
}

/* The thread. */

/* Does what is due; returns how many microseconds nothing will be. */
static u64 vsyn_flow(struct vsyn_device *vsyn)
{
	struct vsyn_settings *settings = vsyn->settings;
	u64 misbehave = vsyn_get(settings, misbehave);
	u32 control = READ_ONCE(vsyn->control);
	u64 now = ktime_get_ns(), next, due;
	bool peers, dma, state;

	lockdep_assert_held(&vsyn->flow_mutex);
	peers = (control & VSYN_ACTIVE_PEERS) &&
		(vsyn->initiates || (misbehave & VSYN_PEERS_IN_P2P));
	dma = (control & VSYN_ACTIVE_DMA) &&
	      (vsyn->initiates || (vsyn->in_p2p && vsyn_get(settings, dma_in_p2p)) ||
	       (misbehave & VSYN_DMA_AFTER_STOP));
	state = (control & VSYN_ACTIVE_STATE) && vsyn->rewrites_state;

	if (peers)
		vsyn_send_due(vsyn, now);
	else
		memset(vsyn->peer_pace, 0, sizeof(vsyn->peer_pace));

	due = vsyn_due(&vsyn->dma_pace, dma ? vsyn_get(settings, dma_rate) : 0, now, VSYN_BATCH);
	while (due-- && vsyn_dma_next(vsyn))
		;
	due = vsyn_due(&vsyn->state_pace, state ? vsyn_get(settings, state_rate) : 0, now, VSYN_BATCH);
	while (due-- && !vsyn_content_rewrite_next(&vsyn->content))
		;

	next = vsyn_land(vsyn, ktime_get_ns());
	if (peers || dma || state)
		return VSYN_TICK_US;
	if (next != U64_MAX)
		return max(1ULL, div_u64(next - min(next, ktime_get_ns()), NSEC_PER_USEC));
	return U64_MAX;
}

static int vsyn_thread(void *data)
{
	struct vsyn_device *vsyn = data;

	while (!kthread_should_stop()) {
		int kicks = atomic_read(&vsyn->kicks);
		u64 idle;

		mutex_lock(&vsyn->flow_mutex);
		idle = vsyn_flow(vsyn);
		mutex_unlock(&vsyn->flow_mutex);
		/* Looks now and then, because nobody kicks it when a setting changes. */
		if (idle == U64_MAX)
			wait_event_idle_timeout(vsyn->flow_wait, kthread_should_stop() ||
						atomic_read(&vsyn->kicks) != kicks, HZ / 10);
		else
			usleep_range(min(idle, (u64)VSYN_TICK_US), VSYN_TICK_US);
	}
	return 0;
}

void vsyn_traffic_kick(struct vsyn_device *vsyn)
{
	atomic_inc(&vsyn->kicks);
	wake_up_all(&vsyn->flow_wait);
}

/* What the migration states allow. */

/* An arc begins: what either state lets the device start it may, what only one lets it take it does not. */
void vsyn_traffic_allow(struct vsyn_device *vsyn, enum vfio_device_mig_state from,
			enum vfio_device_mig_state to)
{
	mutex_lock(&vsyn->flow_mutex);
	vsyn->initiates = vsyn_state_initiates(from) || vsyn_state_initiates(to);
	vsyn->in_p2p = vsyn_state_is_p2p(from) || vsyn_state_is_p2p(to);
	vsyn->rewrites_state = vsyn_state_accepts(from) || vsyn_state_accepts(to);
	if (!vsyn_state_accepts(to)) {
		spin_lock(&vsyn->rx_lock);
		vsyn->rx_state = to;
		spin_unlock(&vsyn->rx_lock);
	}
	mutex_unlock(&vsyn->flow_mutex);
	vsyn_traffic_kick(vsyn);
}

/* The device is in a state: what it forbids has ended when this returns. */
void vsyn_traffic_settle(struct vsyn_device *vsyn, enum vfio_device_mig_state state)
{
	mutex_lock(&vsyn->flow_mutex);
	vsyn->initiates = vsyn_state_initiates(state);
	vsyn->in_p2p = vsyn_state_is_p2p(state);
	vsyn->rewrites_state = vsyn_state_accepts(state);
	if (!vsyn->initiates)
		vsyn_land(vsyn, U64_MAX);
	spin_lock(&vsyn->rx_lock);
	vsyn->rx_state = state;
	spin_unlock(&vsyn->rx_lock);
	mutex_unlock(&vsyn->flow_mutex);
	vsyn_traffic_kick(vsyn);
}

/* A reset: what is on its way still arrives, and counting starts anew. */
void vsyn_traffic_reset(struct vsyn_device *vsyn)
{
	lockdep_assert_held(&vsyn->flow_mutex);
	vsyn_land(vsyn, U64_MAX);
	vsyn->dma_position = 0;
	vsyn->dma_seed = vsyn_get(vsyn->settings, dma_seed);
	vsyn->incarnation = get_random_u64();
	memset(vsyn->sent, 0, sizeof(vsyn->sent));
}

int vsyn_traffic_init(struct vsyn_device *vsyn)
{
	vsyn->flight = kzalloc(sizeof(*vsyn->flight), GFP_KERNEL);
	vsyn->bounce = (__le64 *)__get_free_page(GFP_KERNEL);
	return vsyn->flight && vsyn->bounce ? 0 : -ENOMEM;
}

void vsyn_traffic_free(struct vsyn_device *vsyn)
{
	kfree(vsyn->flight);
	free_page((unsigned long)vsyn->bounce);
}

/* Somebody has opened the device. */
int vsyn_traffic_start(struct vsyn_device *vsyn)
{
	struct task_struct *thread;

	/* What was due while it was closed is not. */
	memset(vsyn->peer_pace, 0, sizeof(vsyn->peer_pace));
	vsyn->dma_pace.since = 0;
	vsyn->state_pace.since = 0;
	thread = kthread_run(vsyn_thread, vsyn, "vsyn/%s", vsyn->name);

	if (IS_ERR(thread))
		return PTR_ERR(thread);
	vsyn->thread = thread;
	spin_lock(&vsyn->rx_lock);
	vsyn->open = true;
	spin_unlock(&vsyn->rx_lock);
	return 0;
}

/* The last one has closed it: nothing moves any more. */
void vsyn_traffic_stop(struct vsyn_device *vsyn)
{
	spin_lock(&vsyn->rx_lock);
	vsyn->open = false;
	spin_unlock(&vsyn->rx_lock);
	kthread_stop(vsyn->thread);
	vsyn->thread = NULL;
	mutex_lock(&vsyn->flow_mutex);
	vsyn_land(vsyn, U64_MAX);
	mutex_unlock(&vsyn->flow_mutex);
}
